"""The catalogue: the offers of a bank, what they earn and cost, who may get them, and how they are arbitrated.

One YAML file, held against a contract when it is loaded. `offers.policy.arbitration` ranks by it.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.errors import CatalogueError
from offers.policy.exploration import Exploration
from offers.policy.rules import Condition, Justification, Rule, Value, misfit, problems
from offers.yaml_file import Kind, Problem, Section, form

# Arbitration itself gives these reasons, so no rule may give a reason of the same name.
NOT_WORTH_ITS_COST = "NOT_WORTH_ITS_COST"
FAMILY_LIMIT = "FAMILY_LIMIT"
BEYOND_K = "BEYOND_K"
RESERVED = (NOT_WORTH_ITS_COST, FAMILY_LIMIT, BEYOND_K)

MOST_OFFERS = 20_000
"""As many pairs of a customer and an offer as the predictor scores at once."""

Name = Annotated[str, form(r"^[a-z0-9][a-z0-9._-]{0,62}$", "small letters, digits and . _ -, such as loan-5k")]
Euros = Annotated[float, Field(ge=0, le=1e9, strict=True)]
Factor = Annotated[float, Field(ge=0, le=1000, strict=True)]
Places = Annotated[int, Field(ge=1, strict=True)]
RuleKind = Literal["eligibility", "suitability"]

_FILE = Kind("catalogue", "offers.policy.shipped", "name, contract, families and offers", CatalogueError)
_VERSION_DIGITS = 12


class Ruled(Section):
    """Base of everything that carries rules. Both kinds withhold an offer.

    Eligibility withholds it for the bank's reasons, suitability for the customer's.
    """

    eligibility: tuple[Rule, ...] = ()
    suitability: tuple[Rule, ...] = ()

    def rules(self) -> Iterator[tuple[RuleKind, int, Rule]]:
        """Yield each rule with its kind and its place among the rules of that kind."""
        yield from (("eligibility", place, rule) for place, rule in enumerate(self.eligibility))
        yield from (("suitability", place, rule) for place, rule in enumerate(self.suitability))


class Weight(Section):
    """A context weight that replaces the offer's own where a condition holds.

    One whose condition tests a protected column needs a `justification`, as a rule does: a low weight withholds.
    """

    when: Condition
    weight: Factor
    # Left out where there is none, so that versions of catalogues without one stay what they were.
    justification: Annotated[Justification | None, Field(exclude_if=lambda value: value is None)] = None


class Offer(Ruled):
    """An offer. `value` is what an acceptance earns and `cost` what a contact costs, both in EUR.

    `attributes` are the values that the bank sets: they fill the contract's columns of role offer. The first of
    `weights` whose condition holds replaces `weight`, the context weight. `lever` is the business's own factor.
    """

    id: Name
    title: Annotated[str, Field(min_length=1)]
    family: Name
    attributes: dict[str, Value] = Field(default_factory=dict)
    value: Euros
    cost: Euros = 0.0
    weight: Factor = 1.0
    weights: tuple[Weight, ...] = ()
    lever: Factor = 1.0


class Family(Ruled):
    """A group of offers. An answer has at most `limit` of them, and the family's rules hold for each."""

    name: Name
    limit: Places | None = None


class PolicySettings(Section):
    """How offers are arbitrated: places in an answer, exploration, and what to do while the predictor is away."""

    k: Places = 3
    exploration: Exploration = Exploration()
    fallback: Literal["value"] | None = None

    @cached_property
    def version(self) -> str:
        """The first digits of the SHA-256 of the settings."""
        return _version(self)


class Catalogue(Ruled):
    """The offers, their families, rules that hold for every offer, and the policy."""

    name: Name
    title: str = ""
    contract: str
    families: Annotated[tuple[Family, ...], Field(min_length=1)]
    offers: Annotated[tuple[Offer, ...], Field(min_length=1, max_length=MOST_OFFERS)]
    policy: PolicySettings = PolicySettings()

    @cached_property
    def version(self) -> str:
        """The first digits of the SHA-256 of the file's content; comments and layout don't count."""
        return _version(self)

    def unlimited(self) -> "Catalogue":
        """Copy the catalogue without family limits and with a place for every offer; a campaign sets its own limits."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        families = tuple(family.model_copy(update={"limit": None}) for family in self.families)
        return Catalogue(**fields | {"families": families, "policy": PolicySettings(k=len(self.offers))})


def shipped() -> list[str]:
    """Names of the catalogues that come with the package; each has the name of its contract."""
    return _FILE.shipped()


def load(where: str, contract: Contract) -> Catalogue:
    """Load a catalogue by the name of a shipped one, by path, or from its YAML text.

    Raises
    ------
    CatalogueError
        no such catalogue, not YAML, a key is unknown, missing or has a wrong value, or it does not fit the contract:
        names line and key
    """
    text, origin = _FILE.find(where)
    return parse(text, contract, origin)


def text(where: str) -> str:
    """The YAML text that `load` would read."""
    return _FILE.find(where)[0]


def contract_of(where: str) -> str:
    """Read the name of the contract that a catalogue is for; raises `CatalogueError` where it names none."""
    document = _FILE.read(*_FILE.find(where))
    name = document.content.get("contract")
    if not isinstance(name, str):
        raise CatalogueError(f"{document.origin}: 'contract': expected the name of a contract, got {name!r}")
    return name


def parse(yaml_text: str, contract: Contract, origin: str = "catalogue") -> Catalogue:
    """Build a catalogue from YAML text and hold it against a contract; `origin` names the file in messages."""
    document = _FILE.read(yaml_text, origin)
    catalogue = document.into(Catalogue)
    document.refuse(_problems(catalogue, contract))
    return catalogue


def _version(section: Section) -> str:
    return hashlib.sha256(section.model_dump_json().encode()).hexdigest()[:_VERSION_DIGITS]


def _below(path: tuple[str | int, ...], problems: Iterator[Problem]) -> Iterator[Problem]:
    return (((*path, *key), problem) for key, problem in problems)


def _problems(catalogue: Catalogue, contract: Contract) -> Iterator[Problem]:
    if catalogue.contract != contract.name:
        yield ("contract",), f"it is for {catalogue.contract!r}, and the contract in use is {contract.name!r}"
        return
    families = [family.name for family in catalogue.families]
    yield from _twice("families", "name", families)
    yield from _twice("offers", "id", [offer.id for offer in catalogue.offers])
    yield from _rule_problems(catalogue, contract)
    for place, family in enumerate(catalogue.families):
        yield from _below(("families", place), _rule_problems(family, contract))
    for place, offer in enumerate(catalogue.offers):
        yield from _below(("offers", place), _offer_problems(offer, families, contract))


def _twice(section: str, key: str, names: list[str]) -> Iterator[Problem]:
    for place, name in enumerate(names):
        if name in names[:place]:
            yield (section, place, key), f"{name!r} stands twice"


def _rule_problems(ruled: Ruled, contract: Contract) -> Iterator[Problem]:
    for kind, place, rule in ruled.rules():
        if rule.reason in RESERVED:
            yield (kind, place, "reason"), f"{rule.reason} is a reason of arbitration; give the rule one of its own"
        yield from _below((kind, place), _unjustified(rule, rule.justification, contract))
        yield from _below((kind, place), problems(rule, contract))


def _unjustified(condition: Condition, justification: str | None, contract: Contract) -> Iterator[Problem]:
    if justification is None and (protected := condition.protected(contract)):
        problem = f"it asks {', '.join(protected)}, which is protected by contract {contract.name}"
        yield ("justification",), f"{problem}: say in 'justification' why that is allowed"


def _offer_problems(offer: Offer, families: list[str], contract: Contract) -> Iterator[Problem]:
    if offer.family not in families:
        yield ("family",), f"expected one of {', '.join(families)}, got {offer.family!r}"
    yield from _below(("attributes",), _attribute_problems(offer, contract))
    yield from _rule_problems(offer, contract)
    for place, weight in enumerate(offer.weights):
        yield from _below(("weights", place), _unjustified(weight.when, weight.justification, contract))
        yield from _below(("weights", place, "when"), problems(weight.when, contract))


def _attribute_problems(offer: Offer, contract: Contract) -> Iterator[Problem]:
    settable = {column.name: column for column in contract.columns if column.role == Role.OFFER}
    for name, value in offer.attributes.items():
        if name not in contract.by_name:
            yield (name,), f"contract {contract.name} has no column {name!r}"
        elif name not in settable:
            yield (name,), f"{name!r} has role {contract[name].role}; an offer sets columns of role offer"
        elif fault := misfit(settable[name], value):
            yield (name,), fault
    for name, column in settable.items():
        if name not in offer.attributes and not column.may_be_missing:
            yield (), f"{name!r} is not set; an offer sets each column of role offer that can't be missing"
