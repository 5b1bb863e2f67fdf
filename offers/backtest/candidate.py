"""A model that a replay has trained, held against the contract's gate as the training pipeline holds it."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from offers.contract.contract import Contract
from offers.data.dataset import origin, windows
from offers.evaluation import gate, metrics
from offers.evaluation.figures import Comparison, Duel, Evaluation, Scores, Window
from offers.evaluation.refits import rolling_propensity
from offers.model.propensity import PropensityModel
from offers.training.dynamics import update_periods, updated_margin

if TYPE_CHECKING:
    from offers.backtest.history import History

SERVING = "what serves"


def lives(history: "History", rows: int, learns: bool) -> bool:
    """Whether the gate lets a first model live that is trained on the first `rows` rows."""
    contract = history.contract
    return not contract.gate or gate.decide(history.figures(rows, learns)[0], contract).passed


def replaces(history: "History", rows: int, learns: bool, duel: Duel, served: np.ndarray) -> bool:
    """Whether the gate lets a challenger that is trained on the first `rows` rows replace what serves.

    Parameters
    ----------
    duel : the challenger against what served, on the newest of the rows
    served : propensities that were served, by row; NaN for rows before the replay
    """
    contract = history.contract
    if not all(rule.passed for rule in gate.challenge(duel, contract)):
        return False
    if not gate.asks_more(contract):
        return True
    evaluation, ours = history.figures(rows, learns)
    champion = _compared(
        contract, history.dataset.labels[rows - len(ours) : rows], ours, served[rows - len(ours) : rows]
    )
    return gate.decide(
        evaluation.model_copy(update={"champion": champion.model_copy(update={"newest": duel})}), contract
    ).passed


def updates(history: "History", model: PropensityModel, rows: slice, batch: int) -> bool:
    """Whether the gate lets an update by these rows, newer ones, replace the model, as the pipeline `update` asks it.

    Parameters
    ----------
    batch : labels that the layer waits for; a contract with fewer than `challenge.fewest` has to ask for as few there
    """
    contract, layer = history.contract, model.layer
    assert layer is not None
    matrix, labels = history.matrix[rows], history.dataset.labels[rows]
    trees = model.tree_margin(matrix)
    ours = expit(updated_margin(contract, layer, layer, matrix, labels, trees))
    periods = update_periods(contract, history.dataset.periods[rows])
    duel = metrics.duel(labels, periods, ours, expit(layer.mixed(trees, matrix)))
    terms = contract.challenge.model_copy(update={"fewest": min(contract.challenge.fewest, batch)})
    return all(rule.passed for rule in gate.challenge(duel, contract.model_copy(update={"challenge": terms})))


def _compared(contract: Contract, labels: np.ndarray, ours: np.ndarray, served: np.ndarray) -> Comparison:
    """Compare on all windows. On rows that nothing had served yet the refits stand for the champion, too."""
    share = contract.evaluation.contact_share
    theirs = np.where(np.isnan(served), ours, served)
    draws = contract.evaluation.bootstrap
    differences = metrics.differences(labels, ours, theirs, share, draws) if gate.compares(contract) else {}
    return Comparison(champion=SERVING, scores=metrics.score(labels, theirs, share), differences=differences)


def figures(history: "History", rows: int, learns: bool) -> tuple[Evaluation, np.ndarray]:
    """Compute what `offers.evaluation.evaluate` does of the first `rows` rows, except for what no rule asks for.

    The refits begin at multiples of `refit_every`, so that all candidates of a replay share them.

    Returns
    -------
    Evaluation
    ndarray, shape (n,)
        propensities of the newest rows, from the first that is judged to row `rows`
    """
    contract = history.contract if learns else history.contract.without_layer
    matrix, labels, periods = history.matrix[:rows], history.dataset.labels[:rows], history.dataset.periods[:rows]
    first, share = origin(contract, rows), contract.evaluation.contact_share
    alignment, weights = -first % contract.evaluation.refit_every, history.dataset.weights
    ours = rolling_propensity(history.learner, matrix, labels, contract, alignment, weights=weights)
    plain = contract.without_layer
    theirs = rolling_propensity(history.baseline, matrix, labels, plain, alignment, weights=weights)

    def scores(span: slice) -> tuple[Scores, Scores]:
        part = slice(span.start - first, span.stop - first)
        model, baseline = (metrics.score(labels[span], values[part], share) for values in (ours, theirs))
        return model, baseline

    model, baseline = scores(slice(first, rows))
    evaluation = Evaluation(
        contract=contract.name,
        scheme="a candidate of a replay",
        rows=rows,
        model=model,
        baseline=baseline,
        windows=tuple(
            Window(name=f"w{n}", first_period=str(first), last_period=str(last), model=model, baseline=baseline)
            for n, span in enumerate(windows(contract, rows), 1)
            for first, last, (model, baseline) in [(periods[span.start], periods[span.stop - 1], scores(span))]
        ),
        within_period_auc=metrics.within_periods(
            labels[first:], ours, periods[first:], contract.evaluation.smallest_segment
        ),
        random_split=model,
        segments=(),
        fairness=(),
        drift=(),
        columns=(),
        champion=None,
    )
    return evaluation, ours
