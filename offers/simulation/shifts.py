"""Changes of a simulated world, on demand."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RateShift:
    """From row `at` of the stream on, acceptance is higher (or lower) by `logits`."""

    at: int
    logits: float


@dataclass(frozen=True)
class CovariateShift:
    """From row `at` of the stream on, a numeric column is higher (or lower) by `sigmas` of its standard deviations.

    The values move before they are rounded and held between the column's `min` and `max`.
    """

    at: int
    column: str
    sigmas: float


@dataclass(frozen=True)
class ShareShift:
    """From row `at` of the stream on, the share of one value of a category or boolean column is `factor` times as big.

    The other values shrink or grow in proportion; no share grows beyond 1.
    """

    at: int
    column: str
    value: str | bool
    factor: float


@dataclass(frozen=True)
class ConceptShift:
    """From row `at` of the stream on, the strongest customer effects, with `share` of the variance, change sign."""

    at: int
    share: float


Regime = RateShift | CovariateShift | ShareShift | ConceptShift


@dataclass(frozen=True)
class TasteShift:
    """From a day of a simulated market on, a share of the dimensions of all tastes change sign."""

    day: float
    share: float
