"""The gate of retrieval: towers serve only if they find more than simple ways do, and spare the ranker enough work."""

from collections.abc import Mapping, Sequence

from offers.contract.market import Market
from offers.evaluation.figures import Figure
from offers.evaluation.gate import GateVerdict, RuleVerdict
from offers.retrieval.evaluation import CO_OCCURRENCE, POPULARITY
from offers.retrieval.figures import MarginResult
from offers.retrieval.measuring import FIRST

FEWEST = 100
"""Products below which scoring all of them costs less than finding candidates is worth."""

KEPT = 0.99
"""Share of the margin that candidates must keep, as the ranker sees it."""


def pays(products: int) -> bool:
    """Whether there are so many products that retrieval can pay."""
    return products >= FEWEST


def decide(market: Market, products: int, ahead: Mapping[str, Figure], margin: MarginResult | None) -> GateVerdict:
    """Judge towers; where they are refused, the ranker scores all products.

    Parameters
    ----------
    ahead : by how much the recall of the towers exceeds that of each other method; empty where there are no towers
    """
    rules: Sequence[RuleVerdict] = (
        RuleVerdict(
            rule="products",
            threshold=f">= {FEWEST}",
            measured=products,
            passed=pays(products),
            note="" if pays(products) else "retrieval does not pay: the ranker scores all products",
        ),
        *(_ahead(name, ahead.get(name)) for name in (POPULARITY, CO_OCCURRENCE)),
        _kept(margin),
    )
    if market.retrieval.method == "none":
        rules = [rule.model_copy(update={"passed": None, "note": "the contract does without"}) for rule in rules]
    passed = market.retrieval.method == "towers" and all(rule.passed for rule in rules)
    return GateVerdict(contract=market.name, passed=passed, rules=tuple(rules))


def _ahead(name: str, figure: Figure | None) -> RuleVerdict:
    rule = f"recall@{FIRST} beyond that of {name}"
    if figure is None:
        return RuleVerdict(rule=rule, threshold="> 0", measured=None, passed=False, note="there are no towers")
    low = figure.value if figure.low is None else figure.low
    note = f"difference {figure}; its low end decides"
    return RuleVerdict(rule=rule, threshold="> 0", measured=low, passed=low > 0, note=note)


def _kept(margin: MarginResult | None) -> RuleVerdict:
    rule, threshold = "margin kept by candidates", f">= {KEPT}"
    if margin is None:
        return RuleVerdict(rule=rule, threshold=threshold, measured=None, passed=False, note="there are no towers")
    value = margin.kept.value
    return RuleVerdict(rule=rule, threshold=threshold, measured=value, passed=value >= KEPT, note=str(margin.kept))
