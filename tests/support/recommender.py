"""A market that is served, as tests of the recommender see it."""

from dataclasses import dataclass
from pathlib import Path

from offers.contract.market import Market
from offers.retrieval.bundle import MarketBundle


@dataclass(frozen=True)
class Shop:
    """A market's bundle and the directory of its tables."""

    bundle: MarketBundle
    tables: Path

    @property
    def market(self) -> Market:
        return self.bundle.market
