"""The gate of a market's bundle: whether its ranker may serve. `offers.retrieval.gate` judges its towers."""

from offers.evaluation.gate import GateVerdict, RuleVerdict
from offers.retrieval.figures import MarketEvaluation


def admitted(evaluation: MarketEvaluation) -> GateVerdict:
    """Judge a ranker: it must foretell later acceptances better than their mean rate does."""
    ranker = evaluation.ranker
    rule = RuleVerdict(
        rule="ranker, log-loss",
        threshold=f"< {ranker.base_log_loss:.4f}",
        measured=ranker.log_loss,
        passed=ranker.log_loss < ranker.base_log_loss,
        note="the mean rate's is the threshold",
    )
    return GateVerdict(contract=evaluation.market, passed=rule.passed is True, rules=(rule,))
