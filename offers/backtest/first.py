"""The first model of a replay, held against the contract's gate as the training pipeline holds it."""

from typing import TYPE_CHECKING

from offers.data.dataset import origin, windows
from offers.evaluation import gate, metrics
from offers.evaluation.figures import Evaluation, Scores, Window
from offers.evaluation.refits import rolling_propensity
from offers.training.learners import Logistic

if TYPE_CHECKING:
    from offers.backtest.history import History


def passes(history: "History", rows: int) -> bool:
    """Whether the gate lets a first model live that is trained on the first `rows` rows."""
    contract = history.contract
    return not contract.gate or gate.decide(_evaluation(history, rows), contract).passed


def _evaluation(history: "History", rows: int) -> Evaluation:
    """Figures of these rows, as `offers.evaluation.evaluate` has them; those that no rule asks for are left out."""
    contract, matrix, labels = history.contract, history.matrix[:rows], history.dataset.labels[:rows]
    first, share, periods = origin(contract, rows), contract.evaluation.contact_share, history.dataset.periods[:rows]
    logistic = Logistic(contract.model, tuple(history.encoder.feature_types))
    ours = rolling_propensity(history.learner, matrix, labels, contract)
    theirs = rolling_propensity(logistic, matrix, labels, contract.without_layer)

    def scores(span: slice) -> tuple[Scores, Scores]:
        part = slice(span.start - first, span.stop - first)
        model, baseline = (metrics.score(labels[span], values[part], share) for values in (ours, theirs))
        return model, baseline

    model, baseline = scores(slice(first, rows))
    return Evaluation(
        contract=contract.name,
        scheme="the first model of a replay",
        rows=rows,
        model=model,
        baseline=baseline,
        windows=tuple(
            Window(
                name=f"w{n}",
                first_period=str(periods[span.start]),
                last_period=str(periods[span.stop - 1]),
                model=scores(span)[0],
                baseline=scores(span)[1],
            )
            for n, span in enumerate(windows(contract, rows), 1)
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
