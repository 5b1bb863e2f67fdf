"""A small market with everything that is known of it."""

from dataclasses import dataclass
from pathlib import Path

from offers.contract.market import Market
from offers.retrieval.bundle import MarketBundle
from offers.simulation.market import SimulatedMarket


@dataclass(frozen=True)
class SmallMarket:
    """A simulated market with its truth, its tables, and the bundle that was trained on them."""

    market: Market
    truth: SimulatedMarket
    tables: Path
    bundle: MarketBundle
