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


def small_market(users: int, products: int, views: int = 20, taste: float = 4) -> str:
    """Write the contract of a market like fintech that is trained in seconds."""
    text = markets.text("fintech")
    changes = {
        "users: 20000, products: 100, days: 365, views: 20": (
            f"users: {users}, products: {products}, days: 365, views: {views}, taste: {taste}"
        ),
        "segments:": "model: {trees: 40, learning_rate: 0.15, column_share: 0.6}\nsegments:",
        "retrieval: {method: towers, candidates: 50}": (
            "retrieval: {method: towers, epochs: 10, learning_rate: 0.01, candidates: 60}"
        ),
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text
