"""The calibration's part of `make bench`: what each method makes of the same trees through time, without a layer."""

import statistics
from dataclasses import dataclass, field

import numpy as np

from benchmarks.material import Material, console, table
from offers.contract.sections import Calibration
from offers.data.dataset import origin
from offers.evaluation import metrics
from offers.evaluation.refits import rolling_propensity
from offers.training.learners import BoostedTrees, Margin

METHODS = ("none", "auto", "platt", "beta", "isotonic")
ALIGNMENTS = (0, 250)
SHOWN = ("auc", "log_loss", "brier", "ece")


@dataclass(frozen=True)
class Remembering:
    """Fits each beginning of the rows once, for all methods."""

    learner: BoostedTrees
    fits: dict[int, Margin] = field(default_factory=dict)

    def fit(self, matrix: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Margin:
        if len(labels) not in self.fits:
            self.fits[len(labels)] = self.learner.fit(matrix, labels, weights)
        return self.fits[len(labels)]


def main(material: Material) -> None:
    contract, dataset = material.contract.without_layer, material.dataset
    matrix, labels, first = dataset.encode(contract), dataset.labels, origin(contract, len(dataset))
    learner = Remembering(BoostedTrees.of(contract, contract.model, 0))
    figures = table("Calibration without a layer, mean of two alignments", "method", "AUC", "log-loss", "Brier", "ECE")
    for method in METHODS:
        settings = Calibration.model_validate(contract.calibration.model_dump() | {"method": method})
        chosen = contract.model_copy(update={"calibration": settings})
        scores = [
            metrics.score(labels[first:], rolling_propensity(learner, matrix, labels, chosen, alignment), 0.1)
            for alignment in ALIGNMENTS
        ]
        figures.add_row(method, *(f"{statistics.mean(score[name].value for score in scores):.3f}" for name in SHOWN))
    console.print(figures)
