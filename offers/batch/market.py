"""Scores all users of a market: towers find candidates, the ranker scores them, the policy puts them in order."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from offers.batch import parts
from offers.batch.order import ROWS, Order
from offers.batch.parts import Manifest, Shard, Summary, Tell
from offers.batch.places import open_parts
from offers.batch.scored_table import WORD, table_schema
from offers.batch.source import Source
from offers.data.market_tables import fetch_tables, opened
from offers.data.online import OnlineUsers, after_the_newest
from offers.errors import DataError
from offers.retrieval.arbitration import MarketPolicy, Recommended
from offers.retrieval.bundle import MarketBundle, open_bundle
from offers.retrieval.recommendation import Recommender
from offers.retrieval.reproduction import catalogue_of
from offers.settings import Settings

BLOCK = 2048
"""Users that a thread scores at a time."""

ROW = "row"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class UserSchema:
    """A batch of users: the id as text, and a row that `MarketBundle.rows` builds."""

    key: str
    width: int

    def ids(self, batch: pa.RecordBatch, first_row: int) -> pa.Array:
        """Give the ids of a batch."""
        return batch.column(self.key)

    def batch(self, ids: list[str], rows: Floats) -> pa.RecordBatch:
        cells = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float32()), self.width)
        return pa.RecordBatch.from_arrays([pa.array(ids, pa.string()), cells], names=[self.key, ROW])

    def rows(self, batch: pa.RecordBatch) -> Floats:
        return np.asarray(batch.column(ROW).flatten()).reshape(-1, self.width)


@dataclass(frozen=True, eq=False)
class MarketScorer:
    """Recommends to batches of users as the recommender does; a user's id is the key of what is explored.

    Parameters
    ----------
    moment : products that are launched later are not recommended
    k : places in an answer
    withheld : whether candidates that are not in an answer are written, too
    threads : number of cores to use
    """

    bundle: MarketBundle
    moment: np.datetime64
    k: int
    withheld: bool = False
    threads: int = 2

    @cached_property
    def table_schema(self) -> pa.Schema:
        """Of the rows that it makes."""
        return table_schema()

    @cached_property
    def schema(self) -> UserSchema:
        return UserSchema(self.bundle.market.users.key, self.bundle.width)

    def __call__(self, batch: pa.RecordBatch, first_row: int = 1) -> pa.Table:
        """Score a batch; rows are by user in the order given, the answer first, then what was withheld."""
        blocks = [batch.slice(start, BLOCK) for start in range(0, len(batch), BLOCK)]
        if not blocks:
            return self.table_schema.empty_table()
        # A booster configures itself in its first prediction, which two threads must not make at once.
        first = self._block(blocks[0])
        with ThreadPoolExecutor(self.threads) as pool:
            return pa.concat_tables([first, *pool.map(self._block, blocks[1:])])

    def _block(self, batch: pa.RecordBatch) -> pa.Table:
        bundle, policy, users = self.bundle, self._policy, self.schema.rows(batch)
        count = max(bundle.market.retrieval.candidates, self.k)
        candidates, propensity = bundle.scored(users, count, self._available)
        ids = self.schema.ids(batch, 1)
        decisions = [
            policy.arbitrate(user, found, chances, self.k, key)
            for user, found, chances, key in zip(users, candidates, propensity, ids.to_pylist(), strict=True)
        ]
        chosen = [[*one.offers, *(one.withheld if self.withheld else ())] for one in decisions]
        numbers = np.repeat(np.arange(len(decisions)), [len(places) for places in chosen])
        ranks = [rank for one, places in zip(decisions, chosen, strict=True) for rank in _ranks(one, places)]
        reasons = [codes for one, places in zip(decisions, chosen, strict=True) for codes in _reasons(one, places)]
        places = np.concatenate([np.array(one, np.int64) for one in chosen] or [np.zeros(0, np.int64)])
        pair = numbers, places
        stacked = {name: _stacked(decisions, name) for name in ("propensity", "value", "score", "first")}
        columns = [
            ids.take(pa.array(numbers)),
            pa.array(ranks, pa.int16()),
            pa.DictionaryArray.from_arrays(pa.array(candidates[pair], pa.int32()), self._ids),
            *(pa.array(values[pair]) for values in stacked.values()),
            pa.array(reasons, pa.list_(pa.string())),
            *(_constant(word, len(places)) for word in (bundle.name, *self._versions)),
        ]
        return pa.Table.from_arrays(columns, schema=self.table_schema)

    @cached_property
    def _versions(self) -> tuple[str, str]:
        return versions(self.bundle)

    @cached_property
    def _policy(self) -> MarketPolicy:
        return Recommender(self.bundle).policy

    @cached_property
    def _ids(self) -> pa.Array:
        return pa.array(self.bundle.product_ids)

    @cached_property
    def _available(self) -> NDArray[np.bool_]:
        return np.asarray(self.bundle.products.launched <= self.moment)


@dataclass(frozen=True, eq=False)
class OpenedMarket:
    """An order for the users of a market whose bundle and tables were opened and checked.

    Attributes
    ----------
    moment : as of which users are known: the second after the newest interaction
    """

    order: Order
    bundle: MarketBundle
    source: Source
    moment: np.datetime64

    @property
    def title(self) -> str:
        return self.bundle.market.title

    @property
    def offers(self) -> list[str]:
        return self.bundle.product_ids

    def scorer(self, threads: int = 2) -> MarketScorer:
        """Make what scores batches of these users."""
        options = self.order.options
        k = options.k or self.bundle.market.recommendation.k
        return MarketScorer(self.bundle, self.moment, k, options.withheld, threads)

    def manifest(self) -> Manifest:
        """Build the run's manifest, which is that of all its shards."""
        options, (policy, catalogue) = self.order.options, versions(self.bundle)
        return Manifest(
            contract=self.bundle.market.name,
            bundle=self.bundle.name,
            policy=policy,
            catalogue=catalogue,
            customers=self.source.origin,
            state=self.source.state,
            key=self.bundle.market.users.key,
            k=options.k or self.bundle.market.recommendation.k,
            withheld=options.withheld,
            rows=options.rows or ROWS,
            shards=self.order.shards,
        )

    def run(self, settings: Settings, tell: Tell, threads: int = 2) -> Summary:
        """Score the order's shard; see `offers.batch.parts.score`."""
        storage = open_parts(self.order.output, settings, Shard(self.order.shard, self.order.shards))
        return parts.score(self.source, self.scorer(threads), storage, self.manifest(), tell)

    def expected(self) -> tuple[pa.Table, int]:
        """Score the bundle's reference; returns the rows, and the number of its users."""
        rows, scorer = self.bundle.reference(), self.scorer()
        ids = [str(number) for number in range(len(rows))]
        return scorer(scorer.schema.batch(ids, rows)), len(rows)


def versions(bundle: MarketBundle) -> tuple[str, str]:
    """Name the policy and the catalogue of a market as its recommender does."""
    catalogue, _ = catalogue_of(MarketPolicy(bundle.market, bundle.products))
    return bundle.market.digest[:12], catalogue


def opened_market(order: Order, settings: Settings) -> OpenedMarket:
    """Open a market's bundle and tables; those in the object store are copied first.

    Raises
    ------
    OffersError
        one of them is not there, can't be read, or does not fit the other, or an option is asked for that markets lack
    """
    options = order.options
    asked = {"a catalogue": order.catalogue, "query": options.query, "pairs": options.pairs, "groups": options.groups}
    if strange := [name for name, value in asked.items() if value]:
        raise DataError(f"{strange[0]}: a market's bundle takes none; leave it out")
    bundle = open_bundle(order.bundle, settings)
    directory = Path(order.customers)
    if order.customers.startswith("s3://"):
        directory = settings.home / "fetched" / "tables" / bundle.name
        fetch_tables(bundle.market, order.customers, directory, settings)
    market, schema = bundle.market, UserSchema(bundle.market.users.key, bundle.width)
    with opened(market, directory) as connection:
        moment = after_the_newest(connection, directory)
        [(total,)] = connection.execute("SELECT count(DISTINCT _key) FROM users").fetchall()

    def read(rows: int) -> Iterator[pa.RecordBatch]:
        with opened(market, directory) as connection:
            for ids, online in OnlineUsers(market).stream(connection, moment):
                yield schema.batch(ids, bundle.rows(online))

    return OpenedMarket(order, bundle, Source(order.customers, f"as of {moment}", int(total), read), moment)


def _ranks(decision: Recommended, places: list[int]) -> list[int | None]:
    return [*range(1, len(decision.offers) + 1), *[None] * (len(places) - len(decision.offers))]


def _reasons(decision: Recommended, places: list[int]) -> list[list[str] | None]:
    return [None if place not in decision.withheld else list(decision.withheld[place]) for place in places]


def _stacked(decisions: list[Recommended], name: str) -> NDArray[np.float64]:
    return np.stack([np.asarray(getattr(one, name), np.float64) for one in decisions])


def _constant(word: str, length: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int32)), [word]).cast(WORD)
