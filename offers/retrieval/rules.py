"""The catalogue of a market's release: the section `recommendation`, which may change without a training."""

import hashlib

from offers.contract.market import Market
from offers.contract.recommendation import Recommendation
from offers.errors import CatalogueError
from offers.yaml_file import Kind, flow

_FILE = Kind("catalogue", "offers.contract.markets", "k, required and family", CatalogueError)


def rules_text(market: Market) -> str:
    """Write the contract's own section as YAML, a key a line."""
    content = market.recommendation.model_dump(mode="json", exclude_none=True)
    return "".join(f"{key}: {flow(value)}\n" for key, value in content.items())


def read_rules(where: str) -> str:
    """Read the YAML of a file; raises `CatalogueError` where there is none."""
    return _FILE.find(where)[0]


def with_rules(market: Market, yaml_text: str, origin: str = "catalogue") -> Market:
    """Put a catalogue in the place of a contract's own section `recommendation`.

    Raises
    ------
    CatalogueError
        it is not YAML, or a key is unknown or wrong, or does not fit the contract: names line and key
    """
    document = _FILE.read(yaml_text, origin)
    rules = document.into(Recommendation)
    truths = [pair.name for pair in market.pairs if pair.measure in ("at_least", "equal")]
    document.refuse((key[1:], problem) for key, problem in rules.problems(market.by_name, truths))
    # The digest of the copy has to be its own.
    return Market.model_validate(market.model_dump() | {"recommendation": rules})


def rules_version(market: Market) -> str:
    """Name the rules of a market by their content."""
    return f"{market.name}-{hashlib.sha256(market.recommendation.model_dump_json().encode()).hexdigest()[:12]}"
