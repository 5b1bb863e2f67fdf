"""CloudEvents of scored rows, as the ranker sends them, checked cell by cell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from offers.drift.examination import SCORE, WatchedColumn
from offers.drift.selection import decoded
from offers.errors import DataError, RequestError, RequestTooLarge
from serving.process.cloud_events import Event, read_event

TYPE = "offers.scored"
MOST_LETTERS, MOST_NUMBER = 1000, float(np.finfo(np.float32).max)
"""What a cell may hold: a contract takes no more, and the rows of whole windows stay in memory."""
_FIELDS = ("bundle", "columns", "propensity", "dropped", "selection")


class WrongBundle(RequestError):  # noqa: N818
    """The rows were scored by another bundle than the one that is watched."""


@dataclass(frozen=True)
class Batch:
    """The rows of one event.

    `rows` has the contract's columns, numbers as float64 with NaN and categories as text or None, and the
    propensity as `_propensity`; `dropped` is how many rows the sender has left out so far. `selection` tells which rows
    of the reference the catalogue's rules let pass.
    """

    source: str
    id: str
    rows: pd.DataFrame
    dropped: int
    selection: str = ""

    @property
    def key(self) -> str:
        """What tells events apart, after CloudEvents 1.0."""
        return f"{self.source} {self.id}"


@dataclass(frozen=True)
class BatchSchema:
    """What the events of a bundle must hold."""

    bundle: str
    columns: tuple[WatchedColumn, ...]
    most_rows: int
    reference_rows: int

    def read(self, headers: Mapping[str, str], body: bytes) -> Batch:
        """Check an event in structured or binary mode.

        Raises
        ------
        WrongBundle
            the rows belong to another bundle
        RequestTooLarge
            there are more than `most_rows` rows
        RequestError
            names the first field that is wrong, what was expected and what arrived
        """
        event = _event(headers, body)
        data = self._data(event)
        propensity = _propensity(data["propensity"])
        if len(propensity) > self.most_rows:
            raise RequestTooLarge(f"'propensity': expected at most {self.most_rows} rows, got {len(propensity)}")
        cells = self._cells(data["columns"], len(propensity))
        rows = pd.DataFrame(cells | {SCORE: propensity})
        return Batch(event.source, event.id, rows, _dropped(data), self._selection(data))

    def _data(self, event: Event) -> dict[str, Any]:
        data = event.data
        if not isinstance(data, dict):
            raise RequestError(f"'data': expected a JSON object, got {_shown(data)}")
        for key in _FIELDS[:3]:
            if key not in data:
                raise RequestError(f"'data': expected {', '.join(_FIELDS[:3])}, but {key!r} is missing")
        if foreign := sorted(set(data) - set(_FIELDS)):
            raise RequestError(f"'data': expected {', '.join(_FIELDS)} alone, got {_shown(foreign[0])} too")
        if data["bundle"] != self.bundle:
            raise WrongBundle(
                f"'bundle': {self.bundle} is watched here, got rows scored by {_shown(data['bundle'])}:"
                " send them to the sidecar of that bundle"
            )
        return data

    def _cells(self, columns: Any, n_rows: int) -> dict[str, Any]:
        if not isinstance(columns, dict):
            raise RequestError(f"'columns': expected an object with a list per column, got {_shown(columns)}")
        names = [column.name for column in self.columns]
        if missing := [name for name in names if name not in columns]:
            raise RequestError(f"'columns': {_shown(missing[0])} is missing; expected {', '.join(names)}")
        if foreign := sorted(set(columns) - set(names)):
            raise RequestError(f"'columns': {_shown(foreign[0])} is no input of the contract; leave it out")
        return {column.name: _column(column, columns[column.name], n_rows) for column in self.columns}

    def _selection(self, data: dict[str, Any]) -> str:
        word = data.get("selection", "")
        if not isinstance(word, str):
            raise RequestError(f"'selection': expected text, got {_shown(word)}")
        try:
            decoded(word, self.reference_rows)
        except DataError as error:
            raise RequestError(f"'selection': {error}") from None
        return word


def _event(headers: Mapping[str, str], body: bytes) -> Event:
    event = read_event(headers, body)
    if event.type != TYPE:
        raise RequestError(f"'type': expected an event of type {TYPE}, got {_shown(event.type)}")
    return event


def _propensity(values: Any) -> np.ndarray:
    cells = _numbers("'propensity'", values)
    if (strange := np.flatnonzero(~((cells >= 0) & (cells <= 1)))).size:
        row = int(strange[0])
        raise RequestError(f"'propensity', row {row + 1}: expected a number in [0, 1], got {_shown(values[row])}")
    return cells


def _column(column: WatchedColumn, values: Any, n_rows: int) -> np.ndarray:
    where = f"column {column.name!r}"
    cells = _words(where, values) if column.kind == "category" else _numbers(where, values)
    if len(cells) != n_rows:
        raise RequestError(f"{where}: expected {n_rows} cells, one for each propensity, got {len(cells)}")
    if column.kind == "boolean" and (strange := np.flatnonzero(~(np.isnan(cells) | np.isin(cells, (0, 1))))).size:
        raise RequestError(f"{where}, row {strange[0] + 1}: expected true, false or null, got {cells[strange[0]]:g}")
    return cells


def _numbers(where: str, values: Any) -> np.ndarray:
    """Numbers as float64, null as NaN."""
    _check_cells(where, values, (int, float, bool, type(None)), "a finite number or null")
    try:
        cells = np.array(values, dtype=np.float64)
    except OverflowError:
        raise RequestError(f"{where}: expected finite numbers, got one that no float64 can hold") from None
    for row in np.flatnonzero(~np.isfinite(cells)):
        if values[row] is not None:
            raise RequestError(f"{where}, row {row + 1}: expected a finite number or null, got {_shown(values[row])}")
    if (large := np.flatnonzero(np.abs(cells) > MOST_NUMBER)).size:
        expected = f"expected a number of at most {MOST_NUMBER:.3g}"
        raise RequestError(f"{where}, row {large[0] + 1}: {expected}, got {_shown(values[large[0]])}")
    return cells


def _words(where: str, values: Any) -> np.ndarray:
    """Text, or None."""
    _check_cells(where, values, (str, type(None)), "text or null")
    for row, value in enumerate(values):
        if value is not None and len(value) > MOST_LETTERS:
            expected = f"expected text of at most {MOST_LETTERS} characters"
            raise RequestError(f"{where}, row {row + 1}: {expected}, got {len(value)}")
    return np.array(values, dtype=object)


def _check_cells(where: str, values: Any, kinds: tuple[type, ...], expected: str) -> None:
    if not isinstance(values, list):
        raise RequestError(f"{where}: expected a list with a cell per row, got {_shown(values)}")
    if set(map(type, values)) <= set(kinds):
        return
    row = next(row for row, value in enumerate(values) if type(value) not in kinds)
    raise RequestError(f"{where}, row {row + 1}: expected {expected}, got {_shown(values[row])}")


def _dropped(data: dict[str, Any]) -> int:
    dropped = data.get("dropped", 0)
    if type(dropped) is not int or dropped < 0:
        raise RequestError(f"'dropped': expected a whole number of rows, 0 or more, got {_shown(dropped)}")
    return dropped


def _shown(value: Any) -> str:
    """A value in a sentence, cut to fit."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
