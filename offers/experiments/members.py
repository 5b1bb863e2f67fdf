"""The customers of an experiment, from the decision log: their arm, their offers and their outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.contract.market import Market
from offers.decisions import history, outcomes
from offers.decisions.outcomes import Labels
from offers.decisions.period import Period
from offers.decisions.pieces import Pieces
from offers.errors import DataError
from offers.evaluation.segments import groups
from offers.retrieval.reproduction import policy_of
from offers.store.delta import DeltaTables

_COLUMNS = (
    "decided_at", "decision_id", "customer", "experiment", "key_id", "arm", "catalogue", "model", "fallback", "inputs",
    "pairs.offer_id", "pairs.propensity", "offer_id", "latency_ms",
)  # fmt: skip

_PER_CUSTOMER = {
    "arm": ("arm", "first"),
    "converted": ("converted", "max"),
    "earned": ("earned", "sum"),
    "covariate": ("covariate", "first"),
    "decisions": ("fallback", "size"),
    "fallbacks": ("fallback", "sum"),
    "exposed": ("exposed", "max"),
    "latency": ("latency_ms", "mean"),
}


@dataclass(frozen=True)
class Members:
    """The customers of an experiment, as `offers.experiments.comparison.compare` takes them.

    Attributes
    ----------
    protected : columns of groups in `customers`
    labels : how outcomes were used
    moved : number of customers left out because they were in two arms, since a share grew within the period
    erased : number of decisions whose customer was erased
    everybody : pseudonyms of all customers, those who were in two arms included
    keys : number of keys of the pseudonyms; under each a customer has another pseudonym
    """

    customers: pd.DataFrame
    contract: Contract | Market
    protected: tuple[str, ...]
    decisions: int
    labels: Labels
    moved: int
    erased: int
    everybody: tuple[str, ...] = ()
    keys: int = 1


@dataclass(frozen=True)
class Deciding:
    """What decided, a catalogue of a contract or the products of a market.

    Attributes
    ----------
    money : value of an acceptance and cost of an offer, by the offer's id
    divided : protected inputs that divide customers into groups
    window : time after a decision until its outcome is known
    """

    contract: Contract | Market
    money: Mapping[str, tuple[float, float]]
    divided: Sequence[Column]
    window: timedelta


def members(
    tables: DeltaTables,
    experiment: str,
    period: Period,
    models: Mapping[str, str | None] | None = None,
    pieces: Pieces | None = None,
) -> Members:
    """Read an experiment's decisions of a period, with the outcomes known at `period.as_of`.

    A customer's earnings are the values of accepted offers minus the costs of all offers made, over mature decisions.
    The covariate is the mean propensity at the first decision, over the offers that all arms have; there is one only
    where the same model scored for all arms.

    Parameters
    ----------
    models : name of the bundle of each arm that has one of its own; where another answered, since the arm's predictor
        was away, that is a decision without its predictor
    pieces : what earlier looks made of the log's files; by default every file is read

    Raises
    ------
    SourceError
        there is no log
    DataError
        it has no decision of the experiment, or a catalogue is missing
    """
    rows, versions = _rows(tables, experiment, period, pieces or Pieces())
    first = next(iter(versions.values()))
    erased = rows["customer"].null_count
    frame, pseudonyms = _frame(rows.filter(rows["customer"].is_valid()) if erased else rows)
    frame = _without_predictor(frame, models or {})
    labels = outcomes.label(frame, outcomes.read(tables), period.as_of, first.window)
    frame = frame.assign(**_results(frame, labels, versions))
    protected = tuple(column.name for column in first.divided if frame[column.name].notna().any())
    arms = frame["arm"].cat.codes.groupby(frame["customer"])
    moved = (arms.max() != arms.min()).to_numpy()
    by_customer = frame[~moved[frame["customer"].to_numpy()]].groupby("customer", sort=False)
    customers = by_customer.agg(**_PER_CUSTOMER, **{name: (name, "first") for name in protected})
    if frame["model"].nunique() > 1:
        customers["covariate"] = np.nan
    words = {name: _named(customers[name]) for name in protected}
    customers = customers.assign(**words).reset_index()
    everybody = pseudonyms.take(pa.array(frame["customer"].unique())).to_pylist()
    customers["customer"] = pseudonyms.take(pa.array(customers["customer"])).to_pylist()
    keys = int(frame["key_id"].nunique())
    number = int(moved.sum())
    return Members(customers, first.contract, protected, len(frame), labels, number, erased, tuple(everybody), keys)


def _rows(tables: DeltaTables, experiment: str, period: Period, pieces: Pieces) -> tuple[pa.Table, dict[str, Deciding]]:
    """Read what is needed of each decision of an experiment, and the catalogues that decided."""
    versions = _deciding(tables)
    where, moments = history.of_experiment(experiment), (period.since, period.until)
    purpose = ("catalogues", experiment)
    found = pieces.read(tables, purpose, ("experiment", "decided_at", "catalogue"), _distinct, where, *moments)
    names = _names(found)
    while True:
        if not names:
            raise DataError(f"experiment {experiment!r}: expected decisions in the log, found none")
        if absent := [name for name in names if name not in versions]:
            raise DataError(f"catalogue {absent[0]}: expected it among the log's policies, found none")
        deciding = {name: versions[name] for name in names}
        common = set.intersection(*(set(one.money) for one in deciding.values()))
        digest = partial(_digest, sorted(common), next(iter(deciding.values())).divided)
        rows = pieces.read(tables, ("members", experiment, *names), _COLUMNS, digest, where, *moments)
        rows = _in_period(rows, period)
        # Files reach beyond the period, and may name catalogues that did not decide in it.
        if (own := _names(rows)) == names:
            return rows, deciding
        names = own


def _deciding(tables: DeltaTables) -> dict[str, Deciding]:
    """Read what the log keeps of contracts and of markets, by the name and version that decisions record."""
    versions = dict[str, Deciding]()
    for name, kept in history.kept(tables).items():
        money = {offer.id: (offer.value, offer.cost) for offer in kept.catalogue.offers}
        window = timedelta(days=kept.contract.target.matures_after_days)
        versions[name] = Deciding(kept.contract, money, group_columns(kept.contract), window)
    for name, texts in history.market_texts(tables).items():
        policy = policy_of(*texts)
        money = {one: (value, 0.0) for one, value in zip(policy.products.ids, policy.value.tolist(), strict=True)}
        inputs = [column for column in policy.market.user_columns if column.role == Role.CUSTOMER]
        divided = [column for column in inputs if column.protected and column.has_groups]
        window = timedelta(days=policy.market.acceptance.matures_after_days)
        versions[name] = Deciding(policy.market, money, divided, window)
    return versions


def _distinct(rows: pa.Table) -> pa.Table:
    return rows.group_by("catalogue").aggregate([])


def _names(rows: pa.Table) -> list[str]:
    return sorted(pc.unique(rows["catalogue"].cast(pa.string())).drop_null().to_pylist())


def _in_period(rows: pa.Table, period: Period) -> pa.Table:
    """Leave out other moments, without a copy where there are none."""
    extremes = pc.min_max(rows["decided_at"]).as_py()
    inside = not len(rows) or (
        extremes["max"] < period.until and (period.since is None or extremes["min"] >= period.since)
    )
    return rows if inside else rows.filter(history.in_moments(period.since, period.until))


def group_columns(contract: Contract) -> list[Column]:
    """List the protected inputs that divide customers into groups."""
    return [column for column in contract.inputs if column.protected and column.has_groups]


def _digest(common: Sequence[str], divided: Sequence[Column], rows: pa.Table) -> pa.Table:
    """Reduce decisions to what the comparison needs: the covariate instead of pairs, groups instead of inputs."""
    digest = rows.drop_columns(["experiment", "pairs", "inputs"])
    digest = digest.append_column("covariate", pa.array(_covariate(rows["pairs"], common), from_pandas=True))
    for column, values in zip(divided, history.parsed(rows["inputs"], divided), strict=True):
        digest = digest.append_column(column.name, _grouped(values, column))
    return digest


def _grouped(values: pa.ChunkedArray, column: Column) -> pa.DictionaryArray:
    """Name the group of each value, by those of the different values; null where there is none."""
    found = values.combine_chunks().dictionary_encode()
    words, place = np.unique(groups(found.dictionary.to_pandas(), column).to_numpy(str), return_inverse=True)
    indices = pa.array(place, pa.int32()).take(found.indices)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _covariate(pairs: pa.ChunkedArray, common: Sequence[str]) -> np.ndarray:
    """Compute the mean propensity over offers; NaN where none was scored."""
    lists = pairs.combine_chunks()
    flat, row = lists.flatten(), np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy())
    propensity, offer = flat.field("propensity").to_numpy(zero_copy_only=False), flat.field("offer_id")
    offer = offer.dictionary_encode()
    known = pc.is_in(offer.dictionary, pa.array(common, pa.string())).to_numpy(zero_copy_only=False)
    there = known[offer.indices.to_numpy(zero_copy_only=False)] & ~np.isnan(propensity)
    total, count = (np.bincount(row[there], weights, len(lists)) for weights in (propensity[there], None))
    return np.asarray(np.divide(total, count, out=np.full(len(lists), np.nan), where=count > 0))


def _frame(rows: pa.Table) -> tuple[pd.DataFrame, pa.Array]:
    """Put decisions in the order in which they were made, with customers as numbers; returns their pseudonyms, too."""
    customer = rows["customer"].combine_chunks().dictionary_encode()
    rest = rows.drop_columns(["customer"])
    frame = rest.to_pandas(types_mapper={pa.string(): pd.ArrowDtype(pa.string())}.get)
    frame["customer"] = customer.indices.to_numpy()
    if not frame["decided_at"].is_monotonic_increasing:
        frame = frame.sort_values("decided_at", kind="stable", ignore_index=True)
    return frame, customer.dictionary


def _named(values: pd.Series) -> pd.Series:
    """Call a group that is not known "missing"."""
    there = values.notna()
    return values if there.all() else values.astype(object).where(there, "missing").astype("category")


def _without_predictor(frame: pd.DataFrame, models: Mapping[str, str | None]) -> pd.DataFrame:
    if not any(models.values()):
        return frame
    own, model = frame["arm"].astype(object).map(dict(models)), frame["model"].astype(object)
    replaced = (own.notna() & model.notna() & (own != model)).astype(bool)
    return frame.assign(fallback=frame["fallback"] | replaced, latency_ms=frame["latency_ms"].mask(replaced))


def _results(frame: pd.DataFrame, labels: Labels, deciding: Mapping[str, Deciding]) -> dict[str, np.ndarray]:
    """Compute the result of each decision; NaN where it is not known yet."""
    offered = frame["offer_id"].notna().to_numpy()
    ripe = labels.mature & (~offered | ~np.isnan(labels.outcome))
    if labels.impressions:
        ripe &= labels.presented | ~offered
    accepted = np.where(offered, np.nan_to_num(labels.outcome), 0.0)
    catalogues, names = frame["catalogue"].cat, frame["offer_id"].cat
    # The last column is for decisions without an offer, whose code is -1.
    value, cost = np.zeros((2, len(catalogues.categories), len(names.categories) + 1))
    for row, name in enumerate(catalogues.categories):
        money = deciding[name].money
        for column, offer_id in enumerate(names.categories):
            if offer_id in money:
                value[row, column], cost[row, column] = money[offer_id]
    where = catalogues.codes.to_numpy(), names.codes.to_numpy()
    return {
        "converted": np.where(ripe, accepted, np.nan),
        "earned": np.where(ripe, accepted * value[where] - cost[where], 0.0),
        "exposed": offered.astype(np.float64),
    }
