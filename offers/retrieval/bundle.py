"""The bundle of a market: what training hands to serving. `offers.retrieval.writing` writes one.

It is a directory named by its content, as every bundle is, without code in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from offers.bundle import signature
from offers.bundle.bundle import is_name
from offers.bundle.directory import check_files, read_manifest
from offers.bundle.location import bundle_path
from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.online import OnlineUsers
from offers.data.online_reading import OnlineRows
from offers.drift.reference import SCORE
from offers.errors import BundleError, ContractError
from offers.evaluation.gate import GateVerdict
from offers.model.encoder import Encoder
from offers.retrieval.admission import admitted
from offers.retrieval.figures import MarketEvaluation
from offers.retrieval.golden import check_golden
from offers.retrieval.manifest import MarketManifest
from offers.retrieval.model_files import load_ranker, load_towers
from offers.retrieval.nearest import nearest
from offers.retrieval.popularity import Popularity, segment_values
from offers.retrieval.product_index import ProductIndex, load_index
from offers.retrieval.products import Products, load_products, values_of
from offers.retrieval.ranker import PairInputs, Ranker
from offers.retrieval.user_tower import Towers
from offers.retrieval.views import full_rows
from offers.settings import Settings

FORMAT = 3

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MarketBundle:
    """A verified bundle in memory. `towers` is None where the ranker scores all products.

    Users are rows that `rows` builds, shape (n, columns + history), and products are places in `product_ids`.
    """

    path: Path
    name: str
    manifest: MarketManifest
    market: Market
    products: Products
    ranker: Ranker
    popularity: Popularity
    towers: Towers | None
    index: ProductIndex | None = None

    @classmethod
    def load(cls, path: Path, expected: str = "") -> Self:
        """Load a bundle after checking every hash and reproducing its golden rows.

        Parameters
        ----------
        path : the bundle's directory
        expected : the name that the bundle must have; by default the directory's name, where that is a bundle's name

        Raises
        ------
        BundleError
            a file is missing or changed, or a golden row scores differently; the message says which
        """
        manifest, name = read_manifest(path, MarketManifest, FORMAT, FORMAT)
        expected = expected or (path.name if is_name(path.name) else "")
        if expected and name != expected:
            raise BundleError(
                f"bundle {path}: its manifest makes it {name}, expected {expected}: the manifest was changed"
            )
        check_files(path, manifest.files)
        try:
            market = markets.parse((path / "market.yaml").read_text("utf-8"), "market.yaml")
        except (ContractError, UnicodeDecodeError) as error:
            raise BundleError(f"bundle {path}: its contract can't be read: {error}") from None
        products = load_products(market, path / "products.parquet")
        counts = np.load(path / "popularity.npy", allow_pickle=False)
        towers = load_towers(path)
        bundle = cls(
            path,
            name,
            manifest,
            market,
            products,
            load_ranker(path, market, products),
            Popularity(segment_values(market), counts),
            towers,
            None if towers is None else load_index(path, towers.products.shape),
        )
        check_golden(bundle)
        return bundle

    @property
    def contract(self) -> Market:
        """What the ledger knows the bundle's releases by."""
        return self.market

    @property
    def evidence(self) -> tuple[str, ...]:
        """The files by which people judge the bundle."""
        return "evaluation.json", "market.yaml"

    @cached_property
    def evaluation(self) -> MarketEvaluation:
        return MarketEvaluation.model_validate_json((self.path / "evaluation.json").read_text("utf-8"))

    @cached_property
    def verdict(self) -> GateVerdict:
        """Whether the bundle may become a release."""
        return admitted(self.evaluation)

    @property
    def product_ids(self) -> list[str]:
        return self.products.ids

    @property
    def product_columns(self) -> Mapping[str, NDArray[Any]]:
        """The values of each column of products: numbers, NaN where missing, or words, None where missing."""
        return self.products.columns

    @cached_property
    def user_encoder(self) -> Encoder:
        """The encoder that makes users' rows."""
        return OnlineUsers(self.market).encoder

    def rows(self, online: OnlineRows) -> Floats:
        """Build the rows of users from those of the online store, with the places of the products they viewed."""
        places = self.products.places_of(online.viewed)
        # The user's tower knows nothing of products that were launched after the training.
        return full_rows(online.matrix, np.where(places < self.manifest.data.products, places, -1))

    @property
    def width(self) -> int:
        """The number of columns of a user's row."""
        return len(self.user_encoder.names) + self.market.retrieval.viewed

    def reference(self) -> Floats:
        """Read the rows of the users that the bundle keeps for comparisons."""
        table = parquet.read_table(self.path / "reference.parquet").drop_columns([SCORE])
        return np.column_stack([column.to_numpy() for column in table.columns]).astype(np.float32)

    def with_products(self, products: Products) -> Self:
        """Add products that were launched after the training; they stand behind the others, and nobody has viewed them.

        The ranker knows them by their columns, and so does the product tower.
        """
        ours = self.products
        launched, matrix = (
            np.concatenate([getattr(ours, name), getattr(products, name)]) for name in ("launched", "matrix")
        )
        every = Products(ours.encoder, [*ours.ids, *products.ids], launched, matrix)
        counts = np.pad(self.popularity.counts, ((0, 0), (0, 0), (0, len(products.ids))))
        return replace(
            self,
            products=every,
            ranker=replace(self.ranker, inputs=PairInputs(self.market, every)),
            popularity=replace(self.popularity, counts=counts),
            towers=self.towers and self.towers.with_products(products.matrix),
        )

    def affinity(self, users: Floats) -> Floats:
        """Compute how well products fit users by the towers, shape (n, n_products), in log-odds up to a constant.

        Raises
        ------
        BundleError
            the bundle has no towers
        """
        if self.towers is None:
            raise BundleError(f"bundle {self.name} has no towers: all products are candidates")
        return self.towers.affinity(users)

    def candidates(self, users: Floats, count: int, available: NDArray[np.bool_]) -> Places:
        """Find the products for the ranker to score.

        Parameters
        ----------
        count : how many; without towers it does not count
        available : shape (n_products,), the products to choose among

        Returns
        -------
        ndarray, shape (n, min(count, number available)), int64
            places of products, first those whose value and affinity promise most; without towers all that are available
        """
        return self._found(users, count, available)[0]

    def scored(self, users: Floats, count: int, available: NDArray[np.bool_]) -> tuple[Places, NDArray[np.float64]]:
        """Find `candidates` and compute their `propensity`, both of shape (n, min(count, number available))."""
        candidates, affinity = self._found(users, count, available)
        return candidates, self.ranker.propensity(users, candidates, affinity)

    def _found(self, users: Floats, count: int, available: NDArray[np.bool_]) -> tuple[Places, Floats | None]:
        """Find candidates, and their affinity where there are towers."""
        if self.towers is None:
            return np.tile(np.flatnonzero(available), (len(users), 1)), None
        vectors = self.towers.user(users)
        places = nearest(self.worth, self.index, vectors, count, available)
        return places, np.asarray(np.einsum("nd,nmd->nm", vectors, self.towers.products[places]))

    @cached_property
    def worth(self) -> Floats:
        """The vectors of products that find those of the highest expected value."""
        assert self.towers is not None
        return self.towers.worth(self.ranker.line.slope, values_of(self.market, self.products)).products

    def propensity(self, users: Floats, products: Places) -> NDArray[np.float64]:
        """Compute the probability that users who look at products accept them, as the contract's `accepted` says.

        Parameters
        ----------
        products : places, shape (n, m)

        Returns
        -------
        ndarray, shape (n, m), in (0, 1)
        """
        affinity = None if self.towers is None else self.towers.affinity_of(users, products)
        return self.ranker.propensity(users, products, affinity)

    def popular(self, segment: Mapping[str, object] | None, count: int) -> Places:
        """List the most viewed products, the most viewed first.

        Parameters
        ----------
        segment : a value for each of the contract's `segments`; None for all users
        count : how many; fewer where there are not as many products

        Returns
        -------
        ndarray, shape (min(count, n_products),), int64
        """
        return np.argsort(-self.popularity.scores(segment), kind="stable")[:count]


def open_bundle(where: str, settings: Settings) -> MarketBundle:
    """Load a market's bundle by path, by name in the local store, or from s3://…/<name>.

    Where the settings name signers, one of them must have signed it.
    """
    path = bundle_path(where, settings)
    if settings.signers:
        signature.check(path, settings.signers)
    return MarketBundle.load(path, expected=path.name if where.startswith("s3://") else "")
