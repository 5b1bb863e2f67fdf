"""The decision log as monitoring reads it: a scored row for each decision, and its outcome."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import dataset

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.decisions import history, outcomes
from offers.decisions.records import DECISIONS
from offers.errors import DataError
from offers.policy.catalogue import Catalogue
from offers.settings import Settings
from offers.store.delta import DeltaTables
from offers.store.store import open_store

_EVER = datetime(9999, 1, 1, tzinfo=UTC)
_COLUMNS = ["decision_id", "customer", "decided_at", "model", "catalogue", "inputs", "pairs", "offer_id"]


def log_at(where: str, settings: Settings) -> DeltaTables | None:
    """Open the decision log at a place; None where there is none."""
    there = open_store(where, settings).keys(f"{DECISIONS}/_delta_log/")
    return DeltaTables.at(where, settings) if there else None


def scored(tables: DeltaTables, contract: Contract, since: datetime | None) -> pd.DataFrame:
    """Read one row for each scored decision: its pair in first place, or another pair where all offers were withheld.

    Decisions that were made without the predictor, or were erased, have no row.

    Returns
    -------
    DataFrame
        `decision_id`, `customer_id` (the pseudonym), `scored_at`, `bundle`, `_propensity`, then the contract's inputs
    """
    there = dataset.field("model").is_valid() & dataset.field("inputs").is_valid()
    table = history.read(tables, since, None, _COLUMNS, there)
    # Customers without an eligible offer were not scored, although others in their request were.
    table = table.filter(pc.greater(pc.list_value_length(table["pairs"]), 0))
    first, propensity = _first_pairs(table)
    own = {
        "decision_id": table["decision_id"].to_pandas(),
        "customer_id": table["customer"].to_pandas(),
        "scored_at": table["decided_at"].to_pandas(),
        "bundle": table["model"].to_pandas(),
        "_propensity": propensity,
    }
    columns = history.inputs_of(table["inputs"].to_pylist(), contract)
    columns |= attributes(table["catalogue"].to_pylist(), first, history.kept(tables), contract)
    typed = {
        column.name: columns[column.name] if len(table) else np.empty(0, object if column.type == "category" else float)
        for column in contract.inputs
    }
    return pd.DataFrame(own | typed)


def served(tables: DeltaTables, since: datetime | None, until: datetime) -> pd.DataFrame:
    """Read moment and bundle of each scored decision of a period, as `scored_at` and `bundle`."""
    columns = ["decided_at", "decision_id", "model"]
    table = history.read(tables, since, until, columns, dataset.field("model").is_valid())
    return pd.DataFrame({"scored_at": table["decided_at"].to_pandas(), "bundle": table["model"].to_pandas()})


def observed(tables: DeltaTables, matures_after: timedelta) -> pd.DataFrame:
    """Read the outcome of each decision's offer in first place, as `decision_id`, `outcome` and `observed_at`.

    A decision without any reported outcome counts as declined once its window has passed, if there is a window.
    """
    columns = ["decided_at", "decision_id", "offer_id"]
    frame = history.read(tables, None, None, columns).to_pandas()
    labels = outcomes.label(frame, outcomes.read(tables), _EVER, matures_after)
    usable = ~np.isnan(labels.outcome) & frame["offer_id"].notna().to_numpy()
    silent = (frame["decided_at"] + matures_after).astype(frame["decided_at"].dtype)
    moments = pd.Series(labels.observed_at, index=frame.index).fillna(silent)
    return pd.DataFrame(
        {
            "decision_id": frame["decision_id"][usable],
            "outcome": labels.outcome[usable] == 1,
            "observed_at": moments[usable],
        }
    ).reset_index(drop=True)


def _first_pairs(table: pa.Table) -> tuple[list[str], np.ndarray]:
    """Choose each decision's pair for `scored`; returns offers and propensities."""
    offers, propensities = list[str](), np.empty(len(table))
    for place, (first, pairs) in enumerate(zip(table["offer_id"].to_pylist(), table["pairs"].to_pylist(), strict=True)):
        pair = next((pair for pair in pairs if pair["offer_id"] == first), pairs[0])
        offers.append(pair["offer_id"])
        propensities[place] = pair["propensity"]
    return offers, propensities


def attributes(
    catalogues: list[str], offers: list[str], kept: dict[str, history.Kept], contract: Contract
) -> dict[str, np.ndarray]:
    """Fill the columns that the bank sets from the offers' attributes in their catalogues.

    Raises
    ------
    DataError
        a catalogue is not in the log
    """
    settable = [column for column in contract.inputs if column.role == Role.OFFER]
    if absent := sorted(set(catalogues) - kept.keys()):
        raise DataError(f"catalogue {absent[0]}: expected it among the log's policies, found none")
    by_name = {name: _by_offer(kept[name].catalogue) for name in set(catalogues)}
    columns = {}
    for column in settable:
        values = [by_name[name][offer].get(column.name) for name, offer in zip(catalogues, offers, strict=True)]
        if column.type == "category":
            columns[column.name] = np.array([None if value is None else str(value) for value in values], object)
        else:
            columns[column.name] = np.array([np.nan if value is None else value for value in values], np.float64)
    return columns


def _by_offer(catalogue: Catalogue) -> dict[str, dict[str, object]]:
    return {offer.id: dict(offer.attributes) for offer in catalogue.offers}
