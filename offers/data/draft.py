"""A first contract for a table without one. Its guesses are marked, for people to check."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from offers.contract.column import Role
from offers.contract.contract import RESERVED
from offers.contract.sections import CsvFormat
from offers.data import cells, formats, guesses, sniffing, table_file
from offers.data.guesses import Guess
from offers.errors import DataError
from offers.files import os_errors
from offers.wording import some
from offers.yaml_file import flow

SCHEMA = "contract.schema.json"
"""The file beside a drafted contract by which editors check it."""
_LEAKAGE_AUC, _STRONG_AUC = 0.95, 0.8
_SAMPLE = 100_000


@dataclass(frozen=True)
class Table:
    """Rows that were read without a contract, their text format, and the columns that a contract can't name."""

    frame: pd.DataFrame
    form: CsvFormat
    left_out: list[str]


def read_file(path: Path) -> Table:
    """Read a CSV, Parquet or Excel file of unknown format; raises what `table_file.read` does."""
    with os_errors(path):
        form = sniffing.csv_format(path) if formats.kind_of(path, str(path)) == "csv" else CsvFormat()
    left_out: list[str] = []
    frame = table_file.read_columns(path, form, str(path), lambda names: _usable(names, left_out))
    return Table(frame, sniffing.number_marks(frame, form), left_out)


def read_query(uri: str, query: str) -> Table:
    """Run a query on a database; raises what `sql.query` does."""
    from offers.data import sql

    left_out: list[str] = []
    return Table(sql.select(uri, query, lambda names: _usable(names, left_out)), CsvFormat(), left_out)


def contract_text(table: Table, source: dict[str, str], name: str, target: str = "") -> str:
    """Write the contract of a table.

    Parameters
    ----------
    source : `file` and `uri`, and for a database the `query`
    name : name of the file or table
    target : the outcome's column; by default the likeliest one

    Raises
    ------
    DataError
        no column with two values could be the outcome, or `target` is not such a column
    """
    outcome = _target(table.frame, name, target)
    positive, negative = guesses.outcomes_of(table.frame[outcome])
    accepted = (cells.words(table.frame[outcome]) == positive).to_numpy()
    others = [
        guesses.column_of(table.frame[column], column, table.form)
        for column in map(str, table.frame)
        if column != outcome
    ]
    columns = [_judged(guess, table, accepted) for guess in others]
    columns.append(Guess(outcome, Role.TARGET, "category"))
    time = next((guess for guess in columns if _is_timeline(guess, table)), None)
    columns = [
        guess.doubted("the rows are in its order", role=Role.TIME) if guess is time else guess for guess in columns
    ]
    sections = {
        "name": _name(name),
        "title": name,
        "source": _source(table, source),
        "target": {"column": outcome, "positive": positive, "negative": negative},
    }
    return "\n".join(
        [*_head(target, sections), *_time(time, columns, table), *_columns(columns), *_tail(columns, table)]
    )


def _target(frame: pd.DataFrame, name: str, target: str) -> str:
    if target and target not in frame:
        raise DataError(f"expected a target among {some([*map(str, frame)])}, got {target!r}")
    outcome = target or guesses.target_of(frame, name)
    if outcome is None:
        raise DataError("no column has two values and no empty cell, so none can be the outcome: name it by --target")
    if len(set(cells.words(frame[outcome]))) != 2:
        raise DataError(f"column {outcome!r}: expected a target of two values and no empty cell, got others")
    return outcome


def _judged(guess: Guess, table: Table, accepted: "np.ndarray[Any, Any]") -> Guess:
    """Add a doubt to a guess whose column alone ranks too well, or whose name requests reserve."""
    if not guess.column.is_input:
        return guess
    auc = _power(cells.read(table.frame[guess.name], guess.column, table.form).values, accepted)
    if auc > _LEAKAGE_AUC:
        guess = guess.doubted(f"leakage: alone it ranks with AUC {auc:.2f}; is it known beforehand?", role=Role.LEAKAGE)
    elif auc > _STRONG_AUC:
        guess = guess.doubted(f"alone it ranks with AUC {auc:.2f}: is it known when the offer is made?")
    if guess.name in RESERVED and guess.column.is_input:
        return guess.doubted(f"{guess.name!r} is a word of requests: rename the column", role=Role.IDENTIFIER)
    return guess


def _power(values: "pd.Series[Any]", accepted: "np.ndarray[Any, Any]") -> float:
    """Compute the AUC of a column alone; a category ranks by its acceptance rate."""
    places = np.random.default_rng(0).permutation(len(values))[:_SAMPLE]
    values, labels = values.iloc[places].reset_index(drop=True), accepted[places]
    if values.dtype == object:
        codes = pd.Series(pd.factorize(values)[0])
        ranks = pd.Series(labels).groupby(codes).transform("mean").to_numpy()
    else:
        ranks = values.astype("float64").fillna(-np.inf).rank().to_numpy()
    auc = float(roc_auc_score(labels, ranks)) if 0 < labels.sum() < len(labels) else 0.5
    return max(auc, 1 - auc)


def _is_timeline(guess: Guess, table: Table) -> bool:
    if guess.type != "date" or guess.column.may_be_missing:
        return False
    return bool(cells.read(table.frame[guess.name], guess.column, table.form).values.is_monotonic_increasing)


def _usable(names: Sequence[str], left_out: list[str]) -> list[str]:
    usable = [name for name in names if name and not name.startswith("_") and list(names).count(name) == 1]
    left_out += [name for name in names if name not in usable]
    return usable


def _name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:41].strip("-")
    return name if re.fullmatch(r"[a-z][a-z0-9-]+", name) else f"table-{name}"[:41].strip("-")


def _source(table: Table, source: dict[str, str]) -> dict[str, Any]:
    usual = CsvFormat()
    form = {key: value for key, value in table.form if value != getattr(usual, key)}
    return source | ({"extra_columns": "ignore"} if table.left_out else {}) | ({"format": form} if form else {})


def _head(target: str, sections: dict[str, Any]) -> list[str]:
    guessed = "" if target else "  # a guess"
    return [
        f"# yaml-language-server: $schema={SCHEMA}",
        "# A first draft: what stands behind a # is a guess or a question. docs/contract.md explains every key.",
        *(f"{key}: {flow(value)}{guessed if key == 'target' else ''}" for key, value in sections.items()),
    ]


def _time(time: Guess | None, columns: Sequence[Guess], table: Table) -> list[str]:
    if time is not None:
        return [f"time: {flow({'column': time.name})}"]
    months = next((guess.name for guess in columns if guess.name.lower() == "month" and guess.type == "category"), None)
    if months:
        return [
            f"# time: {flow({'column': months, 'start': '2020-01'})}  # if the rows are in order: name the first month"
        ]
    return ["# No date is in rising order, so quality is estimated by folds; sort the rows by time if there is one."]


def _columns(columns: Sequence[Guess]) -> list[str]:
    lines = ["columns:"]
    for guess in columns:
        doubts = f"  # {'; '.join(guess.doubts)}" if guess.doubts else ""
        lines.append(
            f"  - {flow({'name': guess.name, 'role': str(guess.role), 'type': guess.type, **guess.keys})}{doubts}"
        )
    return lines


def _tail(columns: Sequence[Guess], table: Table) -> list[str]:
    return [
        "gate:",
        "  - {metric: auc, at_least: 0.6}  # raise it when you know what is usual; a ceiling guards against leakage",
        "  - {metric: log_loss, better_than_baseline: true}",
        "  - {metric: ece, at_most: 0.1}",
        "",
    ]
