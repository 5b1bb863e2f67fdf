"""The manifest of a market's bundle."""

from offers.bundle.manifest import AbstractManifest
from offers.record import Record


class MarketData(Record):
    """The views that the models were trained on. `fingerprint` is the SHA-256 of their rows, products and labels."""

    fingerprint: str
    views: int
    accepted: int
    users: int
    products: int
    first: str
    last: str

    @property
    def origin(self) -> str:
        """What the ledger says of the data."""
        return f"views of {self.users} users from {self.first} to {self.last}"

    @property
    def rows(self) -> int:
        return self.views


class MarketManifest(AbstractManifest):
    """A market's bundle: its files with their SHA-256, and the origin of its models."""

    data: MarketData
    seed: int
    retrieval: str
