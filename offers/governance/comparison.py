"""Lists the differences between two releases as texts."""

from collections.abc import Iterator

from offers.bundle import bundle as bundles
from offers.governance.release import OpenRelease
from offers.policy.catalogue import Catalogue


def differences(first: OpenRelease, second: OpenRelease) -> Iterator[tuple[str, str, str]]:
    """Yield name, first text and second text of each difference: facts of the bundles, then offers' settings."""
    facts = bundles.show(first.bundle), bundles.show(second.bundle)
    for name in facts[0]:
        if facts[0][name] != facts[1][name]:
            yield name, facts[0][name], facts[1][name]
    offers = settings_of(first.catalogue), settings_of(second.catalogue)
    for name in sorted(offers[0].keys() | offers[1].keys()):
        before, after = offers[0].get(name, "-"), offers[1].get(name, "-")
        if before != after:
            yield name, before, after


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
