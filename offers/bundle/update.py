"""An update between trainings: it keeps the trees, and lets the layer learn the labels that came since."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from offers.bundle.bundle import Bundle
from offers.bundle.provenance import Update
from offers.contract.contract import Contract
from offers.data.dataset import Dataset
from offers.errors import DataError
from offers.evaluation import metrics
from offers.evaluation.figures import Change, Comparison, Evaluation
from offers.model.layer import Layer
from offers.model.propensity import PropensityModel
from offers.training.dynamics import first_layer, learn, update_periods, updated_margin

_COMPARED, _COLUMNS = 1000, 5
"""Newest rows by which an update is compared with its parent, and columns that are named."""


@dataclass(frozen=True, eq=False)
class Newer:
    """The rows that are newer than a bundle's: their places, labels, encoded inputs, and margins of its trees."""

    rows: slice
    labels: np.ndarray
    matrix: np.ndarray
    trees: np.ndarray


def update(parent: Bundle, dataset: Dataset, lag: int = 0) -> tuple[PropensityModel, Update]:
    """Let the parent's layer learn the rows that came after the parent was made.

    Parameters
    ----------
    parent : the bundle that serves
    dataset : the rows that the parent was made from, followed by newer ones with matured labels
    lag : number of rows that were scored after these, whose labels are not known yet

    Returns
    -------
    PropensityModel
    Update
        the model's lineage, for `offers.bundle.writing.write`

    Raises
    ------
    DataError
        the contract has no layer, the rows do not begin with the parent's, or too few rows are newer
    """
    newer = rows_newer(parent, dataset)
    layer = learn(_layer(parent, dataset), newer.matrix, newer.labels, newer.trees, lag)
    lineage = Update(parent=parent.name, trained_rows=parent.manifest.trained_rows, labels=len(newer.labels))
    return replace(parent.model, layer=layer), lineage


def prequential_propensity(parent: Bundle, dataset: Dataset) -> np.ndarray:
    """Score the newer rows as updates of the parent would have, shape (n_newer,), in (0, 1)."""
    newer, learning = rows_newer(parent, dataset), _layer(parent, dataset)
    rows = (newer.matrix, newer.labels, newer.trees)
    return np.asarray(expit(updated_margin(parent.contract, parent.model.layer, learning, *rows)))


def label_lag(contract: Contract, periods: np.ndarray) -> int:
    """Expect how many rows were scored since the newest one whose label is known.

    A label is known `matures_after_days` after its decision, and rows come at the pace of the newest whole month.

    Parameters
    ----------
    periods : months of the rows, as YYYY-MM, in time order
    """
    days = contract.target.matures_after_days
    if not days:
        return 0
    months, counts = np.unique(periods, return_counts=True)
    newest = max(len(months) - 2, 0)
    month = np.datetime64(months[newest], "M")
    length = int(((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(int))
    return round(float(counts[newest]) * days / length)


def rows_newer(parent: Bundle, dataset: Dataset) -> Newer:
    """Take the rows after those that the parent was made from; refuses a data set that does not begin with these."""
    manifest, contract = parent.manifest, parent.contract
    if not contract.learns:
        raise DataError(f"contract {contract.name} does without a layer, so there is nothing to update: train anew")
    first = manifest.data.rows
    if dataset.first(first).fingerprint(contract) != manifest.data.fingerprint:
        raise DataError(
            f"expected rows that begin with the {first} rows of bundle {parent.name}, got others: "
            "add new rows at the end, and leave the earlier ones as they are"
        )
    fewest = contract.challenge.fewest
    if (count := len(dataset) - first) < fewest:
        raise DataError(f"expected {fewest} rows newer than those of bundle {parent.name}, got {count}: wait for more")
    matrix = parent.model.encoder.encode(dataset.frame.iloc[first:])
    return Newer(slice(first, len(dataset)), dataset.labels[first:], matrix, parent.model.tree_margin(matrix))


def _layer(parent: Bundle, dataset: Dataset) -> Layer:
    """Take the parent's layer. A parent of version 0.1 has none and gets one that has learnt the parent's rows."""
    if parent.model.layer is not None:
        return parent.model.layer
    first = parent.manifest.data.rows
    matrix = parent.model.encoder.encode(dataset.frame.iloc[:first])
    layer = first_layer(parent.contract, matrix, dataset.labels[:first])
    assert layer is not None
    return layer


def changes(parent: Bundle, model: PropensityModel, dataset: Dataset) -> tuple[Change, ...]:
    """Tell what an update has changed: the layer's state, the newest rows' propensities, and columns' parts in them."""
    before, after = parent.model.layer, model.layer
    rows = dataset.frame[model.encoder.names].iloc[rows_newer(parent, dataset).rows].iloc[-_COMPARED:]
    old, new = parent.model.contributions(rows)[:, :-1], model.contributions(rows)[:, :-1]
    moved = np.abs(new - old).mean(axis=0)
    mean, now = (float(one.propensity(rows).mean()) for one in (parent.model, model))
    nothing = "no layer"
    return (
        Change(what="the layer", before=str(before or nothing), after=str(after or nothing)),
        _change(f"mean propensity of the newest {len(rows)} rows", mean, now, ".2%"),
        *(
            _change(f"mean part of '{model.encoder.names[j]}', in log-odds", old[:, j].mean(), new[:, j].mean(), "+.3f")
            for j in np.argsort(-moved, kind="stable")[:_COLUMNS]
        ),
    )


def _change(what: str, before: float, after: float, form: str) -> Change:
    return Change(what=what, before=f"{before:{form}}", after=f"{after:{form}}")


def measure(parent: Bundle, dataset: Dataset, seed: int = 0) -> tuple[Evaluation, pd.DataFrame]:
    """Compare updates of the parent with the parent itself on the newer rows.

    Returns
    -------
    Evaluation
        the parent's, with this comparison as its champion's
    DataFrame
        one line per newer row: row, period, window, label, propensity, baseline and champion, which is the parent
    """
    contract, newer = parent.contract, rows_newer(parent, dataset)
    ours, theirs = prequential_propensity(parent, dataset), parent.model.propensity(dataset.frame.iloc[newer.rows])
    share, draws = contract.evaluation.contact_share, contract.evaluation.bootstrap
    periods = update_periods(contract, dataset.periods[newer.rows])
    comparison = Comparison(
        champion=parent.name,
        newest=metrics.duel(newer.labels, periods, ours, theirs, draws, seed),
        scores=metrics.score(newer.labels, theirs, share, draws, seed),
        differences=metrics.differences(newer.labels, ours, theirs, share, draws, seed),
    )
    predictions = pd.DataFrame(
        {
            "row": np.arange(newer.rows.start, newer.rows.stop),
            "period": dataset.periods[newer.rows],
            "window": "",
            "label": newer.labels,
            "propensity": ours,
            "baseline": theirs,
            "champion": theirs,
        }
    )
    # The windows are left out: they cover rows of the parent's evaluation, which are not scored again here.
    return parent.evaluation.model_copy(update={"champion": comparison, "windows": (), "candidates": ()}), predictions
