"""Lists the differences between two releases as texts."""

from collections.abc import Iterator, Sequence

from offers.bundle import bundle as bundles
from offers.governance.market_release import AnyRelease, MarketRelease
from offers.policy.catalogue import Catalogue
from offers.retrieval import facts as market_facts


def differences(first: AnyRelease, second: AnyRelease) -> Iterator[tuple[str, str, str]]:
    """Yield name, first text and second text of each difference: facts of the bundles, then offers' settings."""
    facts = facts_of(first), facts_of(second)
    yield from _differing(facts, list(dict.fromkeys([*facts[0], *facts[1]])))
    offers = _settings(first), _settings(second)
    yield from _differing(offers, sorted(offers[0].keys() | offers[1].keys()))


def facts_of(release: AnyRelease) -> dict[str, str]:
    """Describe the bundle of a release for people: facts by name, as text."""
    if isinstance(release, MarketRelease):
        return market_facts.facts(release.bundle)
    return bundles.show(release.bundle)


def _differing(texts: tuple[dict[str, str], dict[str, str]], names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for name in names:
        before, after = texts[0].get(name, "-"), texts[1].get(name, "-")
        if before != after:
            yield name, before, after


def _settings(release: AnyRelease) -> dict[str, str]:
    if isinstance(release, MarketRelease):
        content = release.bundle.market.recommendation.model_dump(mode="json")
        return {f"recommendation {name}": str(value) for name, value in content.items()}
    return settings_of(release.catalogue)


def settings_of(catalogue: Catalogue) -> dict[str, str]:
    """Write each setting of a catalogue as name and text, so that two catalogues can be compared."""
    fields = {f"catalogue {name}": str(value) for name, value in catalogue.policy.model_dump(mode="json").items()}
    fields |= {f"catalogue {kind} {rule.reason}": str(rule) for kind, _, rule in catalogue.rules()}
    for offer in catalogue.offers:
        content = offer.model_dump(mode="json", exclude={"id", "title"})
        fields |= {f"offer {offer.id}: {name}": str(value) for name, value in content.items()}
    for family in catalogue.families:
        content = family.model_dump(mode="json", exclude={"name"})
        fields |= {f"family {family.name}: {name}": str(value) for name, value in content.items()}
    return fields
