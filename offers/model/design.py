"""Encoded rows as the inputs of a linear model: centred categories, standardised numbers, marks of missing values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

CLIP = 3.0
"""Standard deviations beyond which a number counts no further."""
FAR = 10.0
"""Standard deviations beyond which a number is far outside what the design was made from."""
_MOST_VALUES = 32
_BLOCK = 8192
"""Rows whose contributions fit into a core's cache."""


@dataclass(frozen=True)
class Term:
    """One input: a category's value, a number, or the mark that a feature is missing.

    Attributes
    ----------
    feature : place of the feature in the encoded rows
    kind : what the input represents: a value of a category, a number, or the mark of a missing value
    code : code of the category's value; 0 for other kinds
    centre : share of the value or of missing rows, or mean of the number, in the rows of which the design was made
    scale : standard deviation of the number; 1 for other kinds
    """

    feature: int
    kind: str
    code: int
    centre: float
    scale: float


@dataclass(frozen=True)
class Design:
    """The inputs of a linear model, defined once by the first rows and kept unchanged from then on."""

    terms: tuple[Term, ...]
    slots: tuple[int, ...]
    """For each feature the number of its values; 0 for a number."""

    @classmethod
    def of(cls, matrix: np.ndarray, slots: Sequence[int]) -> "Design":
        """Make a design from encoded rows, shape (n, n_features); `slots` is the attribute of that name."""
        terms: list[Term] = []
        for feature, values in enumerate(slots):
            column = matrix[:, feature].astype(np.float64)
            absent = np.isnan(column)
            if values:
                terms += _values(feature, column[~absent].astype(int), values, len(column))
            else:
                terms += _number(feature, column[~absent])
            if absent.any():
                terms.append(Term(feature, "missing", 0, _rounded(absent.mean()), 1.0))
        return cls(tuple(terms), tuple(slots))

    def __len__(self) -> int:
        return len(self.terms)

    def matrix(self, rows: np.ndarray) -> np.ndarray:
        """Compute the inputs of encoded rows, shape (n, n_terms), float64; a missing number is 0."""
        out = np.empty((len(rows), len(self.terms)))
        for j, term in enumerate(self.terms):
            column = rows[:, term.feature]
            if term.kind == "number":
                out[:, j] = _standard(column, term.centre, term.scale)
            else:
                out[:, j] = (np.isnan(column) if term.kind == "missing" else column == term.code) - term.centre
        return out

    def far(self, rows: np.ndarray) -> float:
        """Compute the share of the rows' numbers that lie more than `FAR` standard deviations from their means."""
        numbers = [term for term in self.terms if term.kind == "number"]
        columns = rows[:, [term.feature for term in numbers]].astype(np.float64)
        centre, scale = (np.array([getattr(term, name) for term in numbers]) for name in ("centre", "scale"))
        return float((np.abs(columns - centre) > FAR * scale).mean()) if columns.size else 0.0

    def additive(self, weights: np.ndarray) -> "Additive":
        """Turn weights, shape (n_terms,), into tables that score without a design matrix."""
        return Additive(self, weights)

    def to_json(self) -> dict[str, Any]:
        return {"slots": list(self.slots), "terms": [list(asdict(term).values()) for term in self.terms]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Design":
        terms = (Term(int(f), str(k), int(c), float(m), float(s)) for f, k, c, m, s in content["terms"])
        return cls(tuple(terms), tuple(map(int, content["slots"])))


@dataclass(frozen=True, eq=False)
class Additive:
    """A linear model over a design, by feature: tables for categories, slopes for numbers."""

    design: Design
    weights: np.ndarray

    def parts(self, rows: np.ndarray) -> np.ndarray:
        """Compute each feature's contribution, shape (n, n_features), float64."""
        out = np.zeros(rows.shape)
        categories, numbers = self._categories, self._numbers
        if len(categories):
            out[:, categories] = self._table[self._places(rows)]
        if len(numbers):
            columns = rows[:, numbers].astype(np.float64)
            absent = np.isnan(columns)
            standard = np.clip((columns - self._centre) / self._scale, -CLIP, CLIP)
            out[:, numbers] = np.where(absent, self._missing, standard * self._slope) + self._offset
        return out

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Sum the contributions over features, shape (n,), float64."""
        total = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            total[start : start + _BLOCK] = self._sum(rows[start : start + _BLOCK])
        return total

    def _sum(self, rows: np.ndarray) -> np.ndarray:
        total = np.full(len(rows), self._offset.sum())
        categories, numbers = self._categories, self._numbers
        if len(categories):
            total += self._table[self._places(rows)].sum(axis=1)
        if len(numbers):
            columns = rows[:, numbers].astype(np.float64)
            standard = (columns - self._centre) / self._scale
            np.clip(standard, -CLIP, CLIP, out=standard)
            standard *= self._slope
            absent = np.isnan(columns)
            if absent.any():
                standard = np.where(absent, self._missing, standard)
            total += standard.sum(axis=1)
        return total

    def _places(self, rows: np.ndarray) -> np.ndarray:
        codes = rows[:, self._categories]
        # In each category's table the entry for a missing value comes last.
        return np.asarray((np.where(np.isnan(codes), self._widths, codes) + self._starts).astype(np.intp))

    @cached_property
    def _categories(self) -> np.ndarray:
        return np.flatnonzero(np.array(self.design.slots))

    @cached_property
    def _numbers(self) -> np.ndarray:
        return np.flatnonzero(np.array(self.design.slots) == 0)

    @cached_property
    def _widths(self) -> np.ndarray:
        return np.asarray(np.array(self.design.slots, np.float32)[self._categories])

    @cached_property
    def _starts(self) -> np.ndarray:
        widths = self._widths.astype(int) + 1
        return np.asarray(np.cumsum(widths) - widths)

    @cached_property
    def _table(self) -> np.ndarray:
        """Contributions of the categories' values, one category after the other, each with the missing value last."""
        start = dict(zip(self._categories.tolist(), self._starts.tolist(), strict=True))
        table = np.zeros(int((self._widths.astype(int) + 1).sum()))
        for term, weight in zip(self.design.terms, self.weights, strict=True):
            slots = self.design.slots[term.feature]
            if not slots:
                continue
            first = start[term.feature]
            table[first : first + slots + 1] -= weight * term.centre
            table[first + (slots if term.kind == "missing" else term.code)] += weight
        return table

    def _by_number(self, kind: str, values: np.ndarray, empty: float) -> np.ndarray:
        out = np.full(len(self.design.slots), empty)
        for term, value in zip(self.design.terms, values, strict=True):
            if term.kind == kind and not self.design.slots[term.feature]:
                out[term.feature] = value
        return np.asarray(out[self._numbers])

    @cached_property
    def _centre(self) -> np.ndarray:
        return self._by_number("number", np.array([term.centre for term in self.design.terms]), 0.0)

    @cached_property
    def _scale(self) -> np.ndarray:
        return self._by_number("number", np.array([term.scale for term in self.design.terms]), 1.0)

    @cached_property
    def _slope(self) -> np.ndarray:
        return self._by_number("number", self.weights, 0.0)

    @cached_property
    def _missing(self) -> np.ndarray:
        return self._by_number("missing", self.weights, 0.0)

    @cached_property
    def _offset(self) -> np.ndarray:
        centres = np.array([term.centre for term in self.design.terms])
        return np.asarray(-self._missing * self._by_number("missing", centres, 0.0))


def _values(feature: int, codes: np.ndarray, values: int, rows: int) -> list[Term]:
    counts = np.bincount(codes, minlength=values)
    places = np.sort(np.argsort(-counts, kind="stable")[:_MOST_VALUES])
    return [Term(feature, "value", int(code), _rounded(counts[code] / max(rows, 1)), 1.0) for code in places]


def _number(feature: int, column: np.ndarray) -> list[Term]:
    if not len(column):
        return []
    return [Term(feature, "number", 0, _rounded(column.mean()), _rounded(column.std()) or 1.0)]


def _standard(column: np.ndarray, centre: float, scale: float) -> np.ndarray:
    standard = np.clip((column.astype(np.float64) - centre) / scale, -CLIP, CLIP)
    return np.asarray(np.nan_to_num(standard, nan=0.0))


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
