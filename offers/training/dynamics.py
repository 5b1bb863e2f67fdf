"""Layers of a contract: learnt from all rows beside a training, and from new labels between trainings."""

import numpy as np
from threadpoolctl import threadpool_limits

from offers.contract.contract import Contract
from offers.model.encoder import Encoder
from offers.model.layer import Layer, Walk, Walks


def first_layer(contract: Contract, matrix: np.ndarray, labels: np.ndarray, lag: int = 0) -> Layer | None:
    """A layer that has learnt all rows, oldest first; None where the contract does without.

    Parameters
    ----------
    matrix, labels : encoded rows in time order, and their labels
    lag : rows that came after them and are scored already, their labels not known yet
    """
    if not contract.learns:
        return None
    encoder = Encoder.of(contract)
    empty = Layer.new(matrix, [len(feature.values) for feature in encoder.features], walks(contract))
    return learn(empty, matrix, labels, lag=lag)


def learn(layer: Layer, matrix: np.ndarray, labels: np.ndarray, trees: np.ndarray | None = None, lag: int = 0) -> Layer:
    """`Layer.learn` on one thread: its matrices are too small for more, which would only wait for each other."""
    with threadpool_limits(1):
        return layer.learn(matrix, labels, trees, lag)


def walks(contract: Contract) -> Walks:
    """How the weights of the contract's layers move."""
    dynamics = contract.dynamics
    fast, slow, columns = (Walk(walk.spread, walk.memory) for walk in (dynamics.fast, dynamics.slow, dynamics.columns))
    return Walks(fast, slow, columns, dynamics.batch, dynamics.share)


def rolling_margin(
    contract: Contract, matrix: np.ndarray, labels: np.ndarray, trees: np.ndarray, first: int
) -> np.ndarray:
    """Margins of trees and layer, the layer learning every batch of labels after it was scored, as updates would.

    Parameters
    ----------
    trees : margins of trees that had not seen the row, shape (n_rows,), from row `first` on
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
