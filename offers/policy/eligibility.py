"""A catalogue's rules, compiled: who may get which offer, and why each other offer is withheld."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from offers.contract.contract import Contract
from offers.policy.catalogue import Catalogue, Offer, Ruled, RuleKind
from offers.policy.ranking import Reason, split
from offers.policy.rules import Rule, Test, compiled


@dataclass(frozen=True)
class Judgement:
    """Which rule withholds which offer from which customer, and where it does so for want of a value.

    Both arrays are of bool, shape (n_rules, n_customers, n_offers).
    """

    withheld: np.ndarray
    untold: np.ndarray

    @property
    def allowed(self) -> np.ndarray:
        """Mark the pairs that no rule withholds, shape (n_customers, n_offers)."""
        return np.asarray(~self.withheld.any(axis=0))


@dataclass(frozen=True)
class _Compiled:
    """A rule and its two reasons: for where it fails, and for where a missing value leaves it undecided."""

    test: Test
    reasons: tuple[Reason, Reason]


class Eligibility:
    """The rules of a catalogue for its offers, in the order of the file, eligibility before suitability.

    Attributes
    ----------
    columns : names of the columns that the rules test
    rule_of : the rule behind each reason
    """

    def __init__(
        self, catalogue: Catalogue, offers: Sequence[Offer], contract: Contract, attributes: Mapping[str, np.ndarray]
    ) -> None:
        rules = _rules(catalogue, offers)
        self.columns = frozenset[str]().union(*(rule.columns for rule, _, _ in rules))
        self.rule_of = {reason: rule for rule, kind, _ in rules for reason in _reasons(rule, kind)}
        self._rules = [_Compiled(compiled(rule, contract, attributes), _reasons(rule, kind)) for rule, kind, _ in rules]
        self._about = np.array([about for _, _, about in rules], bool).reshape(len(rules), 1, len(offers))

    def judge(self, columns: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Judgement:
        """Test customers against every rule.

        Parameters
        ----------
        columns : codes of customer and context columns, shape (n_customers, 1)
        shape : (n_customers, n_offers)
        """
        holds, fails = np.empty((2, len(self._rules), *shape), bool)
        for place, rule in enumerate(self._rules):
            holds[place], fails[place] = rule.test(columns)
        withheld = self._about & ~holds
        return Judgement(withheld, withheld & ~fails)

    def reasons(self, judgement: Judgement, asked: np.ndarray) -> Iterator[tuple[Reason, ...]]:
        """Yield the reasons of each withheld pair that was asked for, by customer, then by offer."""
        withheld = (judgement.withheld & asked).transpose(1, 2, 0)
        customer, offer, rule = np.nonzero(withheld)
        table = [reason for rule in self._rules for reason in rule.reasons]
        place_of_reason = 2 * rule + judgement.untold[rule, customer, offer]
        counts = withheld.sum(axis=2)
        return split([table[place] for place in place_of_reason.tolist()], counts[counts > 0])


def _rules(catalogue: Catalogue, offers: Sequence[Offer]) -> list[tuple[Rule, RuleKind, np.ndarray]]:
    """List every rule with a mask of the offers that it covers: the catalogue's, then families', then offers'."""
    families = np.array([offer.family for offer in offers])
    owners: list[tuple[Ruled, np.ndarray]] = [(catalogue, np.ones(len(offers), bool))]
    owners += [(family, families == family.name) for family in catalogue.families]
    owners += [(offer, np.arange(len(offers)) == place) for place, offer in enumerate(offers)]
    rules = [(rule, kind, about) for owner, about in owners for kind, _, rule in owner.rules()]
    return sorted(rules, key=lambda entry: entry[1])


def _reasons(rule: Rule, kind: RuleKind) -> tuple[Reason, Reason]:
    untold = f"can't tell whether {rule}: {', '.join(sorted(rule.columns))} must be known"
    return Reason(rule.reason, kind, True, f"expected {rule}"), Reason(rule.reason, kind, False, untold)
