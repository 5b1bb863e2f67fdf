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
from offers.training.dynamics import first_layer, learn

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
    """Score the newer rows as updates of the parent would have, with an update after every `dynamics.batch` rows.

    The parent itself scores the first batch. A layer that has learnt all earlier batches scores each later one, so no
    row is scored by a model that has learnt it.

    Returns
    -------
    ndarray, shape (n_newer,), in (0, 1)
    """
    newer, layer = rows_newer(parent, dataset), parent.model.layer
    margin, step = newer.trees.copy(), parent.contract.dynamics.batch
    learning = _layer(parent, dataset)
    for start in range(0, len(margin), step):
        part = slice(start, start + step)
        if layer is not None:
            margin[part] = layer.mixed(newer.trees[part], newer.matrix[part])
        layer = learning = learn(learning, newer.matrix[part], newer.labels[part], newer.trees[part])
    return np.asarray(expit(margin))


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
    comparison = Comparison(
        champion=parent.name,
        newest=metrics.duel(newer.labels, _batches(dataset.periods[newer.rows], contract), ours, theirs, draws, seed),
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


def _batches(periods: np.ndarray, contract: Contract) -> np.ndarray:
    """Cut periods by updates: rows that two states have scored are not ranked against each other."""
    numbers = np.arange(len(periods)) // contract.dynamics.batch
    return np.array([f"{period} {number}" for period, number in zip(periods, numbers, strict=True)])
