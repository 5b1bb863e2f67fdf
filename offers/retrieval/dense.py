"""What the towers make of encoded rows: numbers on two scales, words one by one, marks of missing values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offers.model.encoder import Encoder

Floats = NDArray[np.float32]
LIMIT = 4.0
"""Standard deviations beyond which a number counts no more."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Turns encoded rows into inputs of a network.

    A number becomes its standardised value, cut at LIMIT; the same of sign(x) log(1 + |x|), as money spans decades; and
    1 where it is missing, with 0 for the other two. A category becomes a 1 at its word, and nothing but 0 where it is
    missing.

    Attributes
    ----------
    numbers : places of the numbers among the columns
    categories : of each category its place, and how many words it has
    centres, scales : float32, shape (2, numbers): on the scale itself, and on the scale of logarithms
    """

    numbers: tuple[int, ...]
    categories: tuple[tuple[int, int], ...]
    centres: Floats
    scales: Floats

    @property
    def width(self) -> int:
        return 3 * len(self.numbers) + sum(count for _, count in self.categories)

    def __call__(self, matrix: Floats) -> Floats:
        """Compute the inputs of rows, shape (n, width), float32."""
        values = matrix[:, self.numbers]
        missing = np.isnan(values)
        scaled = [
            np.where(missing, 0.0, np.clip((one - self.centres[j]) / self.scales[j], -LIMIT, LIMIT))
            for j, one in enumerate((values, logarithm(values)))
        ]
        words = [matrix[:, place, None] == np.arange(count) for place, count in self.categories]
        return np.concatenate([*scaled, missing, *words], axis=1, dtype=np.float32)


def fit_dense(encoder: Encoder, matrix: Floats) -> Dense:
    """Take means and standard deviations of numbers from encoded rows."""
    numbers = tuple(place for place, feature in enumerate(encoder.features) if not feature.values)
    categories = tuple((j, len(feature.values)) for j, feature in enumerate(encoder.features) if feature.values)
    values = matrix[:, numbers].astype(np.float64)
    centres, scales = np.zeros((2, len(numbers))), np.ones((2, len(numbers)))
    for place, one in enumerate((values, logarithm(values))):
        for column in range(len(numbers)):
            there = one[~np.isnan(one[:, column]), column]
            if len(there):
                centres[place, column] = there.mean()
                scales[place, column] = there.std() or 1.0
    return Dense(numbers, categories, centres.astype(np.float32), scales.astype(np.float32))


def logarithm(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute sign(x) log(1 + |x|)."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))
