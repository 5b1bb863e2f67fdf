"""The dynamic layer: a linear model next to the trees, which learns from every batch of labels between trainings.

It is a logistic regression whose weights follow Ornstein-Uhlenbeck walks around 0. Each walk has a standard deviation,
and a memory in rows (West and Harrison 1997). Between batches, means relax towards 0 and covariances towards the walks'
variances. A batch of labels is a Laplace update: the posterior becomes a Gaussian around its mode. The level is the sum
of a fast and a slow weight. Log-odds are shrunk for the weights' uncertainty (MacKay 1992). A row's margin is the
trees' margin, moved towards the layer's by the layer's share; the trees keep at least half. An offset, which walks as
well, is added to this mean. It learns a batch after the weights have learnt it, so it corrects only what the weights
leave of an error of the level.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit, logit

from offers.errors import BundleError
from offers.model.design import Additive, Design
from offers.model.disbelief import disbelief
from offers.model.laplace import level_posterior, log_loss, posterior
from offers.wording import counted

_FIRST_TRUST = float(logit(0.98))
_FORGETTING, _RATE = 0.9999, 0.5
"""Per row, how much of the evidence for or against the layer is kept; and what a unit of log-loss weighs in it."""
_LITTLE, _NOTHING = 0.05, 0.005
"""Shares below which the layer counts for little, and for nothing."""
_DIGITS = 12
_OFFSET = ("offset", "doubt", "offset_trust")


@dataclass(frozen=True)
class Walk:
    """How a weight moves: its long-run standard deviation in log-odds, and its memory in rows."""

    spread: float
    memory: float


@dataclass(frozen=True)
class Walks:
    """Walks of the fast level, the slow level, the columns' weights and the offset; an update has `batch` rows."""

    fast: Walk = Walk(0.5, 500)
    slow: Walk = Walk(2.0, 30_000)
    columns: Walk = Walk(0.3, 10_000)
    offset: Walk = Walk(0.5, 500)
    batch: int = 250
    share: float = 0.5


@dataclass(frozen=True, eq=False)
class Layer:
    """The state of the layer.

    Attributes
    ----------
    mean, covariance : of the weights, shapes (n,) and (n, n): fast level, slow level, one for each term of the design
    variance : mean variance of a row's log-odds over the newest batch, for the state aged by `lag` rows
    trust : log-odds that the layer helps, judged by the log-loss of rows that it had not learnt
    labels : number of labels that it has learnt
    lag : rows between the newest label and the rows to score, by which the state is aged
    offset : log-odds that the mean of trees and layer lacks, at the newest label
    doubt : variance of the offset; None before it has learnt a label
    offset_trust : log-odds that the offset helps, judged as the layer's trust is
    disbelief : why the newest batch of labels was not learnt, so that the trees answer alone; empty where it was
    """

    design: Design
    walks: Walks
    mean: np.ndarray
    covariance: np.ndarray
    variance: float = 0.0
    trust: float = _FIRST_TRUST
    labels: int = 0
    lag: int = 0
    offset: float = 0.0
    doubt: float | None = None
    offset_trust: float = 0.0
    disbelief: str = ""

    @classmethod
    def new(cls, matrix: np.ndarray, slots: Sequence[int], walks: Walks = Walks()) -> "Layer":
        """Make a layer that has learnt nothing, for rows encoded like `matrix`; see `Design.of`."""
        design = Design.of(matrix, slots)
        spreads = _spreads(walks, len(design))
        return cls(design, walks, np.zeros(len(spreads)), np.diag(spreads**2))

    def __str__(self) -> str:
        labels, lag = counted(self.labels, "label"), counted(self.lag, "row")
        alone = f"; {self._why_alone}" if self.labels and self.share < _LITTLE else ""
        return f"{self.share:.0%} of the margin, {labels} learnt, {lag} late{alone}"

    @property
    def _why_alone(self) -> str:
        why = self.disbelief or ("labels contradict it" if expit(self.trust) < self._freshness else "that is too late")
        return f"{why}, so the trees answer {'alone' if self.share < _NOTHING else 'nearly alone'}"

    @property
    def share(self) -> float:
        """The layer's share of the margin: at most half, and less if it has not helped or its labels are old."""
        if not self.labels or self.disbelief:
            return 0.0
        return float(min(self.walks.share, 0.5) * expit(self.trust) * self._freshness)

    @property
    def _freshness(self) -> float:
        return float(np.exp(-((self.lag / self.walks.columns.memory) ** 2)))

    def margin(self, rows: np.ndarray) -> np.ndarray:
        """Compute the layer's log-odds of encoded rows, shrunk for uncertainty, shape (n,), float64."""
        return self._serving(rows) + self._level

    def parts(self, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Compute each feature's part of the margin, shape (n, n_features), and the level; together they sum to it."""
        return self._serving.parts(rows), self._level

    def contributions(self, trees: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Mix the trees' contributions, shape (n, n_features + 1), the last the bias, with the layer's."""
        features, level = self.parts(rows)
        layer = np.column_stack([features, np.full(len(rows), level)])
        mixed = (1 - self.share) * trees + self.share * layer
        mixed[:, -1] += self.shift
        return np.asarray(mixed)

    def mixed(self, trees: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Mix the trees' margins with the layer's, and add the offset, shape (n,)."""
        share, shift = self.share, self.shift
        if share == 0:
            return trees if shift == 0 else np.asarray(trees + shift)
        return np.asarray(trees + share * (self.margin(rows) - trees) + shift)

    @property
    def shift(self) -> float:
        """The offset of the rows to score: aged by the lag, and less if it has not helped."""
        return 0.0 if self.disbelief else float(self._aged_offset * expit(self.offset_trust))

    @property
    def _aged_offset(self) -> float:
        return float(self.offset * np.exp(-self.lag / self.walks.offset.memory))

    def learn(self, rows: np.ndarray, labels: np.ndarray, trees: np.ndarray | None = None, lag: int = 0) -> "Layer":
        """Learn labels in time order; returns the layer afterwards.

        Parameters
        ----------
        rows : encoded, shape (n, n_features)
        labels : ndarray of 0/1, shape (n,)
        trees : margins of the serving trees for these rows, shape (n,), against which the layer's help is measured;
            None for rows that the trees were trained on
        lag : number of rows that are scored already, but whose labels are not known yet
        """
        layer = self
        for start in range(0, len(labels), self.walks.batch):
            part = slice(start, start + self.walks.batch)
            layer = layer._learnt(rows[part], labels[part].astype(np.float64), None if trees is None else trees[part])
        inputs, covariance = _inputs(self.design, rows[-self.walks.batch :]), layer._aged(lag)[1]
        variance = float(np.einsum("ij,ij->i", inputs @ covariance, inputs).mean())
        return replace(layer, lag=lag, variance=variance)

    def _learnt(self, rows: np.ndarray, labels: np.ndarray, trees: np.ndarray | None) -> "Layer":
        if trees is not None and (why := disbelief(self.design, rows, labels, self.mixed(trees, rows))):
            mean, covariance = self._aged(len(labels))
            return replace(self, mean=mean, covariance=covariance, disbelief=why)
        judged = self if trees is None or not self.labels else self._judged(rows, labels, trees)
        inputs = _inputs(self.design, rows)
        mean, covariance = posterior(*self._aged(len(labels)), inputs, labels)
        learnt = replace(judged, mean=mean, covariance=covariance, labels=self.labels + len(labels), disbelief="")
        return learnt if trees is None else learnt._corrected(rows, labels, trees)

    def _corrected(self, rows: np.ndarray, labels: np.ndarray, trees: np.ndarray) -> "Layer":
        """Let the offset learn what the weights, which have learnt these rows, leave of the level's error."""
        walk = self.walks.offset
        memory, still = float(np.exp(-len(labels) / walk.memory)), walk.spread**2
        doubt = still if self.doubt is None else self.doubt * memory**2 + still * (1 - memory**2)
        fresh = replace(self, lag=0)
        margin = trees + fresh.share * (fresh.margin(rows) - trees)
        offset, doubt = level_posterior(self.offset * memory, doubt, margin, labels)
        return replace(self, offset=offset, doubt=doubt)

    def _judged(self, rows: np.ndarray, labels: np.ndarray, trees: np.ndarray) -> "Layer":
        """Update both trusts by rows that the layer scores here before it learns them."""
        distance, kept = self.margin(rows) - trees, _FORGETTING ** len(labels)
        gain = log_loss(trees, labels) - log_loss(trees + min(self.walks.share, 0.5) * distance, labels)
        trust = float(_FIRST_TRUST + kept * (self.trust - _FIRST_TRUST) + _RATE * gain)
        mean = trees + self.share * distance
        gain = log_loss(mean, labels) - log_loss(mean + self._aged_offset, labels)
        return replace(self, trust=trust, offset_trust=float(kept * self.offset_trust + _RATE * gain))

    def _aged(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean and covariance `rows` rows later."""
        spreads, memory = (
            _spreads(self.walks, len(self.design)),
            np.exp(-rows / _memories(self.walks, len(self.design))),
        )
        return self.mean * memory, self.covariance * np.outer(memory, memory) + np.diag(spreads**2 * (1 - memory**2))

    @cached_property
    def _scaled(self) -> np.ndarray:
        """The weights for scoring: aged by the lag, and shrunk for uncertainty."""
        memory = np.exp(-self.lag / _memories(self.walks, len(self.design)))
        return np.asarray(self.mean * memory / np.sqrt(1 + np.pi * self.variance / 8))

    @property
    def _level(self) -> float:
        return float(self._scaled[:2].sum())

    @cached_property
    def _serving(self) -> Additive:
        return self.design.additive(self._scaled[2:])

    def to_json(self) -> str:
        lower = self.covariance[np.tril_indices(len(self.mean))]
        walks = self.walks
        content = {
            "walks": {name: [float(walk.spread), float(walk.memory)] for name, walk in _named(walks)},
            "batch": walks.batch,
            "share": float(walks.share),
            "design": self.design.to_json(),
            "mean": _digits(self.mean),
            "covariance": _digits(lower),
            **{name: getattr(self, name) for name in ("variance", "trust", "labels", "lag", *_OFFSET)},
            "disbelief": self.disbelief,
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Layer":
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            the text is something else, or has numbers that no layer can have
        """
        try:
            return _read(json.loads(text))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BundleError(f"the layer is not one that this version writes: {error!r}") from None


def _read(content: dict[str, Any]) -> Layer:
    walks = Walks(
        **{name: Walk(*map(float, content["walks"][name])) for name in ("fast", "slow", "columns")},
        # A layer that was written before there was an offset has no walk for it.
        offset=Walk(*map(float, content["walks"].get("offset", astuple(Walks().offset)))),
        batch=int(content["batch"]),
        share=float(content["share"]),
    )
    mean = np.array(content["mean"], np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    lower = np.tril_indices(len(mean))
    covariance[lower] = content["covariance"]
    covariance = covariance + np.tril(covariance, -1).T
    design = Design.from_json(content["design"])
    variance, trust = float(content["variance"]), float(content["trust"])
    offset, doubt, helps = (float(value) if (value := content.get(name)) is not None else None for name in _OFFSET)
    state = [*mean, *covariance.ravel(), variance, trust, offset or 0.0, doubt or 0.0, helps or 0.0]
    if len(mean) != len(design) + 2 or not np.isfinite(state).all():
        raise ValueError("the state does not fit the design, or is not finite")
    counts = int(content["labels"]), int(content["lag"])
    known = design, walks, mean, covariance, variance, trust, *counts, offset or 0.0, doubt, helps or 0.0
    return Layer(*known, disbelief=str(content.get("disbelief", "")))


def _inputs(design: Design, rows: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(rows), 2)), design.matrix(rows)])


def _named(walks: Walks) -> tuple[tuple[str, Walk], ...]:
    return ("fast", walks.fast), ("slow", walks.slow), ("columns", walks.columns), ("offset", walks.offset)


def _spreads(walks: Walks, terms: int) -> np.ndarray:
    return np.array([walks.fast.spread, walks.slow.spread, *[walks.columns.spread] * terms])


def _memories(walks: Walks, terms: int) -> np.ndarray:
    return np.array([walks.fast.memory, walks.slow.memory, *[walks.columns.memory] * terms])


def _digits(values: np.ndarray) -> list[float]:
    """Round values, so that the last bits of linear algebra do not enter the bundle's name."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]
