"""The layer of a contract's models: it learns all rows at a training, and new labels between trainings."""

from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from offers.contract.contract import Contract
from offers.model.encoder import Encoder
from offers.model.layer import Layer, Walk, Walks


def first_layer(contract: Contract, matrix: np.ndarray, labels: np.ndarray, lag: int = 0) -> Layer | None:
    """Make a layer that has learnt all rows, the oldest first; None where the contract has no layer.

    Parameters
    ----------
    matrix, labels : encoded rows in time order, and their labels
    lag : number of later rows that are scored already, but whose labels are not known yet
    """
    if not contract.learns:
        return None
    encoder = Encoder.of(contract)
    empty = Layer.new(matrix, [len(feature.values) for feature in encoder.features], walks(contract))
    return learn(empty, matrix, labels, lag=lag)


def learn(layer: Layer, matrix: np.ndarray, labels: np.ndarray, trees: np.ndarray | None = None, lag: int = 0) -> Layer:
    """Run `Layer.learn` on one thread; its matrices are so small that more threads would only wait."""
    with _libraries().limit(limits=1):
        return layer.learn(matrix, labels, trees, lag)


@cache
def _libraries() -> ThreadpoolController:
    # Looked for once, since the look takes about as long as a batch takes to learn.
    return ThreadpoolController()


def walks(contract: Contract) -> Walks:
    """Read from the contract how the weights of its layers move."""
    dynamics = contract.dynamics
    settings = (dynamics.fast, dynamics.slow, dynamics.columns, dynamics.offset)
    fast, slow, columns, offset = (Walk(walk.spread, walk.memory) for walk in settings)
    return Walks(fast, slow, columns, offset, dynamics.batch, dynamics.share)


def rolling_margin(
    contract: Contract, matrix: np.ndarray, labels: np.ndarray, trees: np.ndarray, first: int
) -> np.ndarray:
    """Compute margins of trees and layer; the layer learns each batch of labels after it was scored, as in updates.

    Parameters
    ----------
    trees : margins of trees that had not seen the row, shape (n_rows,); used from row `first` on
    """
    layer = first_layer(contract, matrix[:first], labels[:first])
    if layer is None:
        return trees
    margin = trees.copy()
    for start in range(first, len(labels), contract.dynamics.batch):
        batch = slice(start, start + contract.dynamics.batch)
        margin[batch] = layer.mixed(trees[batch], matrix[batch])
        layer = learn(layer, matrix[batch], labels[batch], trees[batch])
    return margin


def updated_margin(
    contract: Contract, layer: Layer | None, learning: Layer, matrix: np.ndarray, labels: np.ndarray, trees: np.ndarray
) -> np.ndarray:
    """Compute margins of newer rows as updates would have, with one after every `dynamics.batch` rows.

    The serving model itself scores the first batch. A layer that has learnt all earlier batches scores each later one,
    so no row is scored by a model that has learnt it.

    Parameters
    ----------
    layer : of the model that serves; None for the trees alone
    learning : the layer that learns the rows, the same one where the serving model has one
    matrix, labels, trees : the newer rows, encoded, their labels, and margins of the serving trees, shape (n_rows,)
    """
    margin, step = trees.copy(), contract.dynamics.batch
    for start in range(0, len(margin), step):
        part, before = slice(start, start + step), slice(start - step, start)
        if start:
            layer = learning = learn(learning, matrix[before], labels[before], trees[before])
        if layer is not None:
            margin[part] = layer.mixed(trees[part], matrix[part])
    return margin


def update_periods(contract: Contract, periods: np.ndarray) -> np.ndarray:
    """Cut periods by updates: rows that two states have scored are not ranked against each other."""
    numbers = np.arange(len(periods)) // contract.dynamics.batch
    return np.array([f"{period} {number}" for period, number in zip(periods, numbers, strict=True)])
