"""A model that a replay has trained, held against the contract's gate as the training pipeline holds it."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit

from offers.contract.contract import Contract
from offers.data.dataset import origin, windows
from offers.evaluation import gate, metrics
from offers.evaluation.figures import Comparison, Duel, Evaluation, Scores, Window
from offers.evaluation.refits import rolling_propensity
from offers.model.propensity import PropensityModel
from offers.training.dynamics import update_periods, updated_margin
from offers.training.learners import Learner, Logistic

if TYPE_CHECKING:
    from offers.backtest.history import History

Kind = Literal["layer", "trees", "baseline"]
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


def prepare(history: "History", learns: Collection[bool]) -> None:
    """Make the refits that all candidates of replays with (True) or without (False) a layer share."""
    contract, begin = history.contract, _begin(history, origin(history.contract, history.origin))
    if not contract.gate:
        return
    for kind in {_kind(contract, one): None for one in sorted(learns)}:
        history.refits(kind, begin)
    if any(rule.better_than_baseline for rule in contract.gate):
        history.refits("baseline", begin)


def _kind(contract: Contract, learns: bool) -> Kind:
    return "layer" if learns and contract.learns else "trees"


def _compared(contract: Contract, labels: np.ndarray, ours: np.ndarray, served: np.ndarray) -> Comparison:
    """Compare on all windows. On rows that nothing had served yet the refits stand for the champion, too."""
    share = contract.evaluation.contact_share
    theirs = np.where(np.isnan(served), ours, served)
    draws = contract.evaluation.bootstrap
    differences = metrics.differences(labels, ours, theirs, share, draws) if gate.compares(contract) else {}
    return Comparison(champion=SERVING, scores=metrics.score(labels, theirs, share), differences=differences)


def figures(history: "History", rows: int, learns: bool) -> tuple[Evaluation, np.ndarray]:
    """Compute what `offers.evaluation.evaluate` does of the first `rows` rows, except for what no rule asks for.

    Returns
    -------
    Evaluation
    ndarray, shape (n,)
        propensities of the newest rows, from the first that is judged to row `rows`
    """
    contract, first = history.contract, origin(history.contract, rows)
    labels, periods, share = history.dataset.labels, history.dataset.periods, contract.evaluation.contact_share
    begin = _begin(history, first)
    ours = history.refits(_kind(contract, learns), begin)
    whole = slice(first, rows)

    def score(span: slice) -> Scores:
        return metrics.score(labels[span], ours[span], share)

    model = baseline = score(whole)
    if any(rule.better_than_baseline for rule in contract.gate):
        baseline = metrics.score(labels[whole], history.refits("baseline", begin)[whole], share)
    spans = windows(contract, rows) if any(rule.on == "each_window" for rule in contract.gate) else []
    evaluation = Evaluation(
        contract=contract.name,
        scheme="a candidate of a replay",
        rows=rows,
        model=model,
        baseline=baseline,
        windows=tuple(_window(n, periods[span], score(span)) for n, span in enumerate(spans, 1)),
        within_period_auc=metrics.within_periods(
            labels[whole], ours[whole], periods[whole], contract.evaluation.smallest_segment
        ),
        within_period_chance=metrics.chance(labels[whole], periods[whole], contract.evaluation.smallest_segment),
        random_split=model,
        segments=(),
        fairness=(),
        drift=(),
        columns=(),
        champion=None,
    )
    return evaluation, ours[whole]


def _window(number: int, periods: np.ndarray, scores: Scores) -> Window:
    first, last = str(periods[0]), str(periods[-1])
    return Window(name=f"w{number}", first_period=first, last_period=last, model=scores, baseline=scores)


def _begin(history: "History", first: int) -> int:
    """Find where the refits begin by which rows from `first` on are judged: for all candidates at the same row, if the
    labels of a good part of the rows before the replay are known."""
    step, usual = history.contract.evaluation.refit_every, origin(history.contract, history.origin) * 3 // 4
    return max((usual if usual <= first else first) // step * step, 1)


def refits(history: "History", kind: Kind, begin: int) -> np.ndarray:
    """Score all rows from `begin` on by models of a kind that are refitted every `refit_every` rows, shape (n_rows,).

    A row's propensity depends only on rows before it. So candidates of all moments share the refits, where the pipeline
    begins anew with the first row that it judges.
    """
    contract, dataset = history.contract, history.dataset
    # Half a row more, so that rounding down finds this row.
    share = (begin + 0.5) / len(dataset)
    contract = contract.model_copy(update={"evaluation": contract.evaluation.model_copy(update={"train_share": share})})
    learner: Learner = history.learner
    if kind == "baseline":
        learner = Logistic(contract.model, tuple(history.encoder.feature_types))
    contract = contract if kind == "layer" else contract.without_layer
    scored = rolling_propensity(learner, history.matrix, dataset.labels, contract, weights=dataset.weights)
    return np.concatenate([np.full(begin, np.nan), scored])
