"""Small markets with everything that is known of them."""

from dataclasses import dataclass
from pathlib import Path

from offers.contract import market as markets
from offers.contract.market import Market
from offers.retrieval.bundle import MarketBundle
from offers.retrieval.figures import MarketEvaluation
from offers.simulation.market import SimulatedMarket


@dataclass(frozen=True)
class SmallMarket:
    """A simulated market with its truth, its tables, and the bundle that was trained on them."""

    market: Market
    text: str
    truth: SimulatedMarket
    tables: Path
    bundle: MarketBundle
    evaluation: MarketEvaluation


def small_market(users: int, products: int, simulation: str = "") -> str:
    """Write the contract of a market like fintech that is trained in seconds."""
    text = markets.text("fintech")
    sizes = f"users: {users}, products: {products}, days: 365{simulation}"
    changes = {
        "users: 20000, products: 100, days: 365": sizes,
        "segments:": "model: {trees: 40, learning_rate: 0.15, column_share: 0.6}\nsegments:",
        "retrieval: {method: towers,": "retrieval: {method: towers, epochs: 8,",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text
