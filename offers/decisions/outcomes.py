"""Outcomes: loads them from files, reads them from their table, and derives each decision's label."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import compute as pc
from pyarrow import parquet

from offers.decisions.outcome import OPTIONAL, REQUIRED, SKEW, checked
from offers.decisions.records import OUTCOMES, QUARANTINE, SCHEMAS, Rows
from offers.errors import DataError, SourceError
from offers.files import os_errors, sha256_of
from offers.store.delta import DeltaTables, dataset_of
from offers.wording import some


@dataclass(frozen=True)
class Loaded:
    """The result of loading a file; `again` is true where the same file had been loaded before."""

    outcomes: int
    quarantined: int
    again: bool


@dataclass(frozen=True)
class Labels:
    """The label of each decision, and how many outcomes could not be used for one.

    Attributes
    ----------
    outcome : ndarray, shape (n_decisions,), 1 accepted, 0 declined or matured without an acceptance, NaN not yet known
    observed_at : Series of moments
        when the outcome was observed, NaT where the label comes from silence
    mature : ndarray of bool
        whether the whole window has passed; until then acceptances count, but silence does not yet mean a refusal
    presented : ndarray of bool, whether the customer is known to have seen an offer of the decision
    impressions : number of decisions with a reported impression
    duplicate, contradictory, early, late, orphan, foreign : numbers of outcomes
        repeated; reversed by a later one; from before the decision; from after its window; without a decision here;
        about an offer that has none of the places that are labelled
    """

    outcome: np.ndarray
    observed_at: pd.Series
    mature: np.ndarray
    presented: np.ndarray
    impressions: int
    duplicate: int
    contradictory: int
    early: int
    late: int
    orphan: int
    foreign: int


def load(path: Path, tables: DeltaTables) -> Loaded:
    """Append the outcomes of a CSV or Parquet file; unusable rows go to quarantine with the reason.

    Loading the same file again adds nothing.

    Raises
    ------
    SourceError
        the file can't be read as CSV or Parquet
    DataError
        a column is missing, unknown or occurs twice
    StorageError
        the tables can't be written
    """
    received_at, rows = datetime.now(UTC), Rows(f"file-{sha256_of(path)[:32]}", 0)
    for item in _read(path):
        try:
            outcome = checked({name: _text(value) for name, value in item.items()})
        except DataError as error:
            rows.quarantine(str(error), str(item))
            continue
        observed_at = datetime.fromisoformat(outcome["observed_at"])
        if observed_at > received_at + SKEW:
            rows.quarantine(f"from the future: observed {outcome['observed_at']}", str(item))
            continue
        own = {"observed_at": observed_at, "received_at": received_at, "request_id": None}
        rows.add(OUTCOMES, observed_at, outcome | own)
    fresh = [tables.append(name, table, rows.writer, 0, ["date"]) for name, table in rows.tables().items()]
    return Loaded(len(rows.of[OUTCOMES]), len(rows.of[QUARANTINE]), again=bool(fresh) and not any(fresh))


def read(tables: DeltaTables) -> pd.DataFrame:
    """Read all outcomes, in the order in which they were observed; an empty table where none were ever reported."""
    if not tables.holds(OUTCOMES):
        empty: pd.DataFrame = SCHEMAS[OUTCOMES].empty_table().to_pandas()
        return empty
    columns = ["decision_id", "offer_id", "kind", "observed_at", "received_at"]
    rows = dataset_of(tables.open(OUTCOMES)).to_table(columns=columns)
    rows = rows.sort_by([("observed_at", "ascending"), ("received_at", "ascending")])
    # As Python's texts, the ids of half a million outcomes would take most of the time.
    ids = pd.Series(rows["decision_id"].cast(pa.string()), dtype=pd.ArrowDtype(pa.string()))
    rows = rows.drop_columns("decision_id").set_column(1, "kind", rows["kind"].dictionary_encode())
    frame: pd.DataFrame = rows.to_pandas().assign(decision_id=ids)
    return frame[columns]


def label(
    decisions: pd.DataFrame,
    outcomes: pd.DataFrame,
    as_of: datetime,
    matures_after: timedelta,
    below: np.ndarray | None = None,
) -> Labels:
    """Join decisions with the outcomes that were known at `as_of`.

    An outcome counts if it comes within `matures_after` of its decision. Of a repeated outcome the first report counts.
    Where an acceptance and a refusal contradict, the later counts; at the same moment neither. An outcome without an
    offer is about the offer in first place. Without a window (0) none is late, and silence means nothing.

    Parameters
    ----------
    decisions : one row per decision, with `decision_id`, `decided_at` and `offer_id`, the offer in first place
    below : ndarray of object, shape (n_decisions, n_places - 1), optional
        offers shown below first place, None where there was none

    Returns
    -------
    Labels
        for the offer in first place; with `below` for each (decision, place), decision by decision
    """
    visible = outcomes[(outcomes["received_at"] <= as_of) & (outcomes["observed_at"] <= as_of)]
    ids, told = (pa.array(frame["decision_id"], pa.string()) for frame in (decisions, visible))
    row = pc.index_in(told, ids).to_numpy(zero_copy_only=False)
    orphan = np.isnan(row)
    visible, row = visible[~orphan], row[~orphan].astype(np.intp)
    firsts = decisions["offer_id"].iloc[row].to_numpy(object)[:, None]
    offers = firsts if below is None else np.hstack([firsts, below[row]])
    unit = row * offers.shape[1] + _place(visible["offer_id"].to_numpy(object), offers)
    unusable = _unusable(decisions["decided_at"].iloc[row], visible, unit < row * offers.shape[1], matures_after)
    events = visible[["kind"]].assign(row=unit, at=visible["observed_at"])[~np.any(list(unusable.values()), axis=0)]
    once = events.drop_duplicates(["row", "kind"])
    n_answers, last, clear = _answers(once)
    mature = np.repeat(np.asarray(decisions["decided_at"] + matures_after <= as_of), offers.shape[1])
    moments = np.full(len(mature), np.datetime64("NaT"), "datetime64[us]")
    moments[clear["row"].to_numpy()] = clear["at"].to_numpy("datetime64[us]")
    return Labels(
        _outcome(mature & bool(matures_after), last, clear),
        pd.Series(moments).dt.tz_localize("UTC").astype(decisions["decided_at"].dtype),
        mature,
        _there(len(mature), once["row"].to_numpy()),
        impressions=int(once["kind"].eq("presented").sum()),
        duplicate=len(events) - len(once),
        contradictory=n_answers - len(clear),
        orphan=int(orphan.sum()),
        **{name: int(mask.sum()) for name, mask in unusable.items()},
    )


def _there(count: int, places: np.ndarray) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[places] = True
    return mask


def _answers(once: pd.DataFrame) -> tuple[int, pd.DataFrame, pd.DataFrame]:
    """Count acceptances and refusals; find the last ones of each row, and those of them without a contradiction."""
    answers = once[once["kind"].isin(["accepted", "declined"])]
    last = answers[answers["at"] == answers.groupby("row")["at"].transform("max")]
    return len(answers), last, last[~last["row"].duplicated(keep=False)]


def _outcome(silent: np.ndarray, last: pd.DataFrame, clear: pd.DataFrame) -> np.ndarray:
    """Label by the last answers; `clear` are those without a contradiction, and `silent` marks refusals by silence."""
    outcome = np.where(silent, 0.0, np.nan)
    outcome[last["row"].unique()] = np.nan
    outcome[clear["row"]] = clear["kind"].eq("accepted")
    return outcome


def _place(offer: np.ndarray, offers: np.ndarray) -> np.ndarray:
    """Find the place, from 0, of each outcome's offer among those of its decision; -1 where it is none of them."""
    same = offers == offer[:, None]
    return np.where(pd.isna(offer), 0, np.where(same.any(axis=1), same.argmax(axis=1), -1))


def _unusable(
    decided: pd.Series, outcomes: pd.DataFrame, foreign: np.ndarray, matures_after: timedelta
) -> dict[str, np.ndarray]:
    """Mark unusable outcomes by the first reason that applies; element i of each argument belongs to outcome i."""
    # Without a type each moment would become an object.
    decided_at, observed_at = (one.to_numpy("datetime64[us]") for one in (decided, outcomes["observed_at"]))
    early = observed_at < decided_at - np.timedelta64(SKEW)
    late = (observed_at > decided_at + np.timedelta64(matures_after)) & bool(matures_after)
    return {"early": early, "late": late & ~early, "foreign": foreign & ~early & ~late}


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _read(path: Path) -> Iterable[dict[str, Any]]:
    with os_errors(path, SourceError), path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    try:
        table = parquet.read_table(path) if is_parquet else _csv(path)
    except (pa.ArrowException, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise SourceError(f"{path}: expected outcomes as CSV with a header, or Parquet ({line})") from None
    names = table.column_names
    problems = {
        "missing": [name for name in REQUIRED if name not in names],
        "unknown": [name for name in names if name not in (*REQUIRED, *OPTIONAL)],
        "twice": sorted({name for name in names if names.count(name) > 1}),
    }
    if any(problems.values()):
        differences = "; ".join(f"{kind}: {some(columns)}" for kind, columns in problems.items() if columns)
        expected = f"expected outcomes with {', '.join(REQUIRED)}, and where wanted {', '.join(OPTIONAL)}"
        raise DataError(f"{path}: {expected}; {differences}")
    return (item for batch in table.to_batches(10_000) for item in batch.to_pylist())


def _csv(path: Path) -> pa.Table:
    types = {name: pa.string() for name in (*REQUIRED, *OPTIONAL)}
    options = arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    return arrow_csv.read_csv(path, convert_options=options)
