"""Guesses about the columns of an unknown table, for people to check: type, range, categories and role."""

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from offers.contract.column import Column, Role
from offers.contract.sections import CsvFormat
from offers.contract.values import FALSE_WORDS, LARGEST, SAFE_INTEGER, TRUE_WORDS
from offers.data import cells

_MISSING_WORDS = ("", "NA", "N/A", "n/a", "na", "NULL", "null", "None", "NaN", "nan", "?", "-")
_SENTINELS = (999, 9999, 99999, -1, -9, -99, -999, -9999)
_DATE_FORMATS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y%m%d")
_MOST_CATEGORIES = 60
_ADULT_BANDS = [25, 60]

_IDENTIFIER = r"(^|[_. ])(id|uuid|guid|iban|email|phone|zip|zip code|postcode|surname|address|ssn)$"
_PROTECTED = r"^(age|sex|gender|race|ethnicity|religion|marital|marital.status|nationality|disability)$"
_OFFER = r"^(contact|channel|product|offer|price|day.of.week|weekday|loan_amnt|term|int_rate|installment)$"
_CONTEXT = r"euribor|libor|sofr|\bcpi\b|\bgdp\b|inflation|unemployment|employed|\.idx$|_index$|emp\.var\.rate|^month$"
_LEAKAGE = r"duration|outcome_date|closed|recover|funded|_paid|last_pymnt|charge.?off"
_TARGET = r"^(y|target|label|outcome|response|responded|accepted|bought|taken|converted|subscribed|bad|churn|churned)$"


@dataclass(frozen=True)
class Guess:
    """A column of a drafted contract: its keys, and doubts that a person should check."""

    name: str
    role: Role
    type: str
    keys: dict[str, Any] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def column(self) -> Column:
        return Column.model_validate({"name": self.name, "role": self.role, "type": self.type, **self.keys})

    def doubted(self, doubt: str, **changes: Any) -> "Guess":
        return replace(self, doubts=(*self.doubts, doubt), **changes)


def target_of(frame: pd.DataFrame, stem: str) -> str | None:
    """Guess the outcome: a column of two values, recognised by its name, the file's name, or its place."""
    full = [str(name) for name in frame if name and frame[name].notna().all()]
    candidates = [name for name in full if len(set(cells.words(frame[name]))) == 2]
    columns = [str(name) for name in frame]

    def likelihood(name: str) -> tuple[bool, bool, bool, int]:
        named_by_file = len(name) > 3 and _normal(name) in _normal(stem)
        return _is(_TARGET, name), named_by_file, name == columns[-1], -columns.index(name)

    return max(candidates, key=likelihood, default=None)


def outcomes_of(values: pd.Series) -> tuple[str, str]:
    """Guess the words of acceptance and refusal by their meaning; otherwise the rarer one is acceptance."""
    frequent, rare = (str(word) for word in cells.words(values).value_counts().index)
    means_yes = frequent.lower() in TRUE_WORDS and rare.lower() in FALSE_WORDS
    return (frequent, rare) if means_yes else (rare, frequent)


def column_of(values: pd.Series, name: str, form: CsvFormat) -> Guess:
    """Guess a column's type, range, categories, missing values and role from its name and values."""
    texts = cells.words(values)
    keys: dict[str, Any] = {"nullable": True} if values.isna().any() else {}
    present = set(texts.dropna())
    if absent := [word for word in _MISSING_WORDS if word in present]:
        keys["missing"] = absent
    for kind in ("boolean", "date", "integer", "number"):
        if guess := _of_kind(kind, values, name, keys, form):
            return _in_role(guess, texts)
    keys.pop("missing", None)
    return _in_role(_categorical(texts, name, keys), texts)


def _of_kind(kind: str, values: pd.Series, name: str, keys: dict[str, Any], form: CsvFormat) -> Guess | None:
    for date_format in (None, *_DATE_FORMATS) if kind == "date" else (None,):
        shaped = keys | ({"format": date_format} if date_format else {})
        guess = Guess(name, Role.IDENTIFIER if kind == "date" else Role.CUSTOMER, kind, shaped)
        result = cells.read(values, replace(guess, role=Role.IDENTIFIER).column, form)
        present = result.values.dropna()
        if result.wrong.size or present.empty:
            continue
        if kind == "boolean" and set(present) != {0.0, 1.0}:
            return None
        return _with_range(guess, present) if kind in ("integer", "number") else guess
    return None


def _with_range(guess: Guess, present: "pd.Series[Any]") -> Guess | None:
    """Add the range that the values suggest; None where the guess is whole numbers and the values are not."""
    numbers = present.to_numpy(np.float64)
    if np.abs(numbers).max() > (SAFE_INTEGER if guess.type == "integer" else LARGEST / 2):
        return Guess(guess.name, Role.IDENTIFIER, "text", _empty_cells(guess)).doubted("too large for a model")
    if guess.type == "integer" and (np.rint(numbers) != numbers).any():
        return None
    for sentinel in _SENTINELS:
        rest = numbers[numbers != sentinel]
        if _stands_apart(sentinel, len(numbers) - len(rest), rest):
            missing = [*guess.keys.get("missing", ()), str(sentinel)]
            share = 1 - len(rest) / len(numbers)
            guess = guess.doubted(f"{sentinel} in {share:.1%} of the rows seems to mean 'not known'", keys=guess.keys)
            guess, numbers = replace(guess, keys=guess.keys | {"missing": missing}), rest
    low, high = _rounded_out(float(numbers.min()), float(numbers.max()))
    return replace(guess, keys=guess.keys | {"min": low, "max": high})


def _stands_apart(sentinel: int, times: int, rest: "np.ndarray[Any, Any]") -> bool:
    """Whether a frequent value lies far beyond all others, as a code for missing values does."""
    if not times or not len(rest):
        return False
    if sentinel > 0:
        return bool(rest.max() < sentinel / 5)
    return bool(rest.min() >= 0 and times > 1)


def _rounded_out(low: float, high: float) -> tuple[float, float]:
    """Widen a range to round numbers, with room for values that have not occurred yet."""
    lowest = -_round_up(-2 * low) if low < 0 else 0.0
    return lowest, _round_up(1.5 * high) if high > 0 else 1.0


def _round_up(number: float) -> float:
    if number <= 0:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(number))
    return min(next(step * unit for step in (1, 2, 5, 10) if step * unit >= number), 1e38)


def _categorical(texts: "pd.Series[Any]", name: str, keys: dict[str, Any]) -> Guess:
    counts = texts.value_counts()
    if not 2 <= len(counts) <= min(_MOST_CATEGORIES, max(2, len(texts) // 5)):
        why = "one value only" if len(counts) == 1 else "empty" if counts.empty else f"{len(counts)} different texts"
        return Guess(name, Role.IDENTIFIER, "text", keys).doubted(f"{why}: no model can use that")
    return Guess(name, Role.CUSTOMER, "category", keys | {"values": sorted(map(str, counts.index))})


def _in_role(guess: Guess, texts: "pd.Series[Any]") -> Guess:
    numbered = guess.type == "integer" and texts.is_unique and len(texts) > 50
    if _is(_IDENTIFIER, guess.name) or numbered:
        why = "every row has its own value" if numbered else "by its name"
        return Guess(guess.name, Role.IDENTIFIER, "text", _empty_cells(guess)).doubted(f"identifier: {why}")
    if guess.role == Role.IDENTIFIER:
        return guess
    for role, pattern in ((Role.LEAKAGE, _LEAKAGE), (Role.OFFER, _OFFER), (Role.CONTEXT, _CONTEXT)):
        if _is(pattern, guess.name):
            return guess.doubted(f"{role}: by its name", role=role)
    if _is(_PROTECTED, guess.name):
        guess = guess.doubted("protected: by its name", keys=guess.keys | {"protected": True} | _bands(guess, texts))
    return guess


def _empty_cells(guess: Guess) -> dict[str, Any]:
    return {"nullable": True} if guess.keys.get("nullable") else {}


def _bands(guess: Guess, texts: "pd.Series[Any]") -> dict[str, Any]:
    if guess.type not in ("integer", "number"):
        return {}
    if guess.name.lower() == "age":
        return {"bands": _ADULT_BANDS}
    thirds = pd.to_numeric(texts, errors="coerce").quantile([1 / 3, 2 / 3])
    return {"bands": sorted({float(f"{third:.2g}") for third in thirds})}


def _is(pattern: str, name: str) -> bool:
    return re.search(pattern, name.strip().lower()) is not None


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
