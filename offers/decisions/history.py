"""Reads decisions, and the catalogues that made them, from the tables of the log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache

import duckdb
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from pyarrow import dataset

from offers.contract import contract as contracts
from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.decisions.records import ADDED, DECISIONS, POLICIES
from offers.errors import DataError
from offers.policy import catalogue as catalogues
from offers.policy.catalogue import Catalogue
from offers.store.delta import DeltaTables, dataset_of

_WORD = "found[{}]"
_NUMBER = "TRY_CAST(replace(replace(found[{}], 'true', '1'), 'false', '0') AS DOUBLE)"


@dataclass(frozen=True)
class Kept:
    """A catalogue and its contract, as they were when the catalogue decided."""

    contract: Contract
    catalogue: Catalogue


def read(
    tables: DeltaTables,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
    where: dataset.Expression | None = None,
) -> pa.Table:
    """Read decisions in the order in which they were made.

    Parameters
    ----------
    since, until : first moment that is read, and first moment that is not
    columns : columns to read, with `decided_at` and `decision_id`; by default all. One that a table of an earlier
        version lacks is null in every row
    where : a further condition

    Raises
    ------
    SourceError
        there is no log
    StorageError
        the store can't be reached
    """
    condition = in_period(since, until)
    if where is not None:
        condition &= where
    decisions = dataset_of(tables.open(DECISIONS))
    absent = [name for name in ADDED if columns is not None and name in columns and name not in decisions.schema.names]
    known = columns if columns is None else [name for name in columns if name not in absent]
    rows = decisions.to_table(columns=known, filter=condition)
    for name in absent:
        rows = rows.append_column(name, pa.nulls(len(rows), ADDED[name]))
    return rows.sort_by([("decided_at", "ascending"), ("decision_id", "ascending")])


def in_period(since: datetime | None, until: datetime | None) -> dataset.Expression:
    """Build the condition that a decision was made in a period; by its dates it chooses files, too."""
    condition = dataset.field("decision_id").is_valid() & in_moments(since, until)
    if since is not None:
        condition &= dataset.field("date") >= since.date()
    if until is not None:
        condition &= dataset.field("date") <= until.date()
    return condition


def in_moments(since: datetime | None, until: datetime | None) -> dataset.Expression:
    """Build the condition that a decision's moment lies in a period, from `since` on and before `until`."""
    moment = dataset.field("decided_at")
    condition = moment.is_valid()
    if since is not None:
        condition &= moment >= since
    if until is not None:
        condition &= moment < until
    return condition


def of_share(share: float) -> dataset.Expression:
    """Build the condition that a decision is about one of a share of the customers, always the same ones."""
    if share >= 1:
        return dataset.scalar(True)
    return _text("customer") < f"{int(share * 16**12):012x}"


def of_customer(pseudonym: str) -> dataset.Expression:
    """Build the condition that a decision is about a customer."""
    return _text("customer") == pseudonym


def of_versions(model: str, catalogue: str) -> dataset.Expression:
    """Build the condition that a bundle and a catalogue made a decision; a catalogue by its name and version."""
    return (_text("model") == model) & (_text("catalogue") == catalogue)


def of_decision(decision_id: str) -> dataset.Expression:
    """Build the condition that a decision has an id."""
    return _text("decision_id") == decision_id


def of_experiment(name: str) -> dataset.Expression:
    """Build the condition that a decision is about a member of an experiment."""
    return _text("experiment") == name


def _text(column: str) -> dataset.Expression:
    """Cast a column to text, because in files that an erasure wrote its type can't be compared with text."""
    return dataset.field(column).cast(pa.string())


def kept(tables: DeltaTables) -> dict[str, Kept]:
    """Read the log's catalogues, by the name and version that decisions record; those of markets are left out."""
    versions: dict[str, Kept] = {}
    for row in _policies(tables):
        if row["catalogue"] not in versions and not _is_of_market(row):
            names = ("contract", "contract_text", "catalogue", "catalogue_text")
            versions[row["catalogue"]] = _parsed(*(row[name] for name in names))
    return versions


@lru_cache(64)
def _parsed(contract: str, contract_text: str, catalogue: str, catalogue_text: str) -> Kept:
    known = contracts.parse(contract_text, f"the log's contract {contract}")
    return Kept(known, catalogues.parse(catalogue_text, known, f"the log's catalogue {catalogue}"))


def market_texts(tables: DeltaTables) -> dict[str, tuple[str, str]]:
    """Read the contracts and the products of the log's markets, as JSON, by the name and version of both."""
    rows = filter(_is_of_market, _policies(tables))
    return {row["catalogue"]: (row["contract_text"], row["catalogue_text"]) for row in rows}


def _policies(tables: DeltaTables) -> list[dict[str, str]]:
    return dataset_of(tables.open(POLICIES)).to_table().to_pylist() if tables.holds(POLICIES) else []


def _is_of_market(row: Mapping[str, str]) -> bool:
    return bool(orjson.loads(row["catalogue_text"]).keys() == {"ids", "matrix"})


def ledger_heads(tables: DeltaTables) -> list[str]:
    """List the ends of the ledger that decisions name, each once.

    Raises
    ------
    SourceError
        there is no log
    """
    decisions = dataset_of(tables.open(DECISIONS))
    if "ledger_head" not in decisions.schema.names:
        return []
    return sorted(set(decisions.to_table(columns=["ledger_head"])["ledger_head"].to_pylist()) - {None})


def inputs_of(inputs: Iterable[str], contract: Contract) -> dict[str, np.ndarray]:
    """Turn logged inputs into columns: words as object with None where missing, other types as numbers with NaN.

    Raises
    ------
    DataError
        a decision's inputs lack a column of the contract
    """
    rows = [orjson.loads(text) for text in inputs]
    names = list(rows[0]) if rows else []
    expected = {column.name: column for column in contract.inputs}
    columns = {}
    for name in names:
        if name not in expected:
            raise DataError(f"logged questions: {name!r} is no input of contract {contract.name}")
        try:
            values = [row[name] for row in rows]
        except KeyError:
            raise DataError(f"logged questions: expected column {name!r} in each, but it is missing in one") from None
        kind = object if expected[name].type == "category" else np.float64
        columns[name] = np.array(values, kind)
    return columns


def parsed(inputs: pa.ChunkedArray, columns: Sequence[Column]) -> list[pa.ChunkedArray]:
    """Turn some columns of logged inputs into words, or numbers; a value that the inputs lack is null."""
    if not columns:
        return []
    pointers = ["/" + column.name.replace("~", "~0").replace("/", "~1") for column in columns]
    forms = [_WORD if column.type == "category" else _NUMBER for column in columns]
    asked = ", ".join(f"{form.format(n)} AS c{n}" for n, form in enumerate(forms, 1))
    # A text is parsed once for all columns.
    every = "SELECT json_extract_string(inputs, ?) AS found FROM logged"
    with _engine().cursor() as cursor:
        cursor.register("logged", pa.table({"inputs": inputs}))
        found: list[pa.ChunkedArray] = (
            cursor.sql(f"SELECT {asked} FROM ({every})", params=[pointers]).to_arrow_table().columns
        )
    return found


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """Make the engine once, which takes longer than to parse a thousand texts; each use has a cursor of its own."""
    return duckdb.connect()


def read_columns(inputs: pa.ChunkedArray, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """Turn some columns of logged inputs into arrays as `inputs_of` does, many times faster than it reads them all.

    A value that the inputs lack is missing.
    """
    types = [object if column.type == "category" else np.float64 for column in columns]
    cells = zip(columns, parsed(inputs, columns), types, strict=True)
    return {column.name: values.to_pandas().to_numpy(kind) for column, values, kind in cells}


def propensities(pairs: pa.ChunkedArray, offers: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrange the logged figures of each decision's offers as matrices.

    Parameters
    ----------
    pairs : the decisions' column of scored pairs
    offers : offer ids in the order of the result's columns

    Returns
    -------
    dict
        `propensity`, `score` and `action_probability`, each an ndarray of shape (n_decisions, n_offers), NaN where a
        pair was not scored
    """
    combined = pairs.combine_chunks() if isinstance(pairs, pa.ChunkedArray) else pairs
    flat, lengths = combined.flatten(), np.diff(combined.offsets.to_numpy())
    row = np.repeat(np.arange(len(combined)), lengths)
    place = pd.Index(offers).get_indexer(flat.field("offer_id").to_pandas())
    arrays = {}
    for name in ("propensity", "score", "action_probability"):
        dense = np.full((len(combined), len(offers)), np.nan)
        dense[row[place >= 0], place[place >= 0]] = flat.field(name).to_numpy(zero_copy_only=False)[place >= 0]
        arrays[name] = dense
    return arrays
