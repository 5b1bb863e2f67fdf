"""An order to score a table of customers: where everything lies, and what is asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import pyarrow as pa
from pydantic import Field

from offers.batch import parts
from offers.batch.customers import CustomerSchema
from offers.batch.parts import Manifest, Shard, Summary, Tell
from offers.batch.places import open_parts
from offers.batch.scoring import Scorer, Versions
from offers.batch.source import Description, Source, open_customers
from offers.bundle.bundle import Bundle
from offers.bundle.location import bundle_path, open_bundle
from offers.contract.contract import Contract
from offers.data.download import ByteProgress
from offers.errors import DataError
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.catalogue import Catalogue
from offers.record import Record
from offers.settings import Settings
from offers.yaml_file import Kind, Section

if TYPE_CHECKING:
    from offers.batch.market import OpenedMarket

ROWS = 100_000
"""Customers in a part, by default."""

_OPTIONS = Kind("options of a scoring", "offers.batch", "k, rows, pairs and customer", DataError)


class Options(Section):
    """What `offers score` may be told beside the places.

    Attributes
    ----------
    customer : the column with the customers' ids
    query : SQL text for a database
    version : of a Delta table of customers; None for the newest
    k : places in an answer; None for the catalogue's
    withheld, pairs, groups : what else is written, as `offers score` explains it
    rows : customers in a part
    """

    customer: str = "customer_id"
    query: str = ""
    version: Annotated[int, Field(ge=0, strict=True)] | None = None
    k: Annotated[int, Field(ge=1, strict=True)] | None = None
    withheld: bool = False
    pairs: bool = False
    groups: bool = False
    rows: Annotated[int, Field(ge=1, le=5_000_000, strict=True)] | None = None

    @classmethod
    def of(cls, text: str) -> "Options":
        """Read options from YAML text; raises `DataError`, which names the key that is wrong."""
        return _OPTIONS.read(text, "options").into(cls) if text else cls()


class Order(Record):
    """A table of customers to score, for every process that has a part in it; it holds no secret.

    Attributes
    ----------
    bundle, customers, output, catalogue : as `offers score` takes them
    shard, shards : which share of the parts is meant, and of how many
    """

    bundle: str
    customers: str
    output: str
    catalogue: str = ""
    options: Options = Options()
    shard: int = 1
    shards: int = 1


@dataclass(frozen=True)
class Work:
    """An order whose bundle and catalogue were opened and checked, for customers of this description."""

    order: Order
    bundle: Bundle
    catalogue: Catalogue
    schema: CustomerSchema
    source: Description

    def scorer(self, threads: int = 2) -> Scorer:
        """Make what scores batches of these customers."""
        options = self.order.options
        catalogue = self.catalogue.unlimited() if options.pairs else self.catalogue
        policy, versions = Policy(catalogue, self.bundle.contract), Versions.of(self.bundle.name, self.catalogue)
        asked = options.k, options.withheld, threads, options.groups
        return Scorer(self.bundle.model, policy, self.schema, versions, *asked)

    def manifest(self) -> Manifest:
        """Build the run's manifest, which is that of all its shards."""
        options, versions = self.order.options, Versions.of(self.bundle.name, self.catalogue)
        places = len(self.catalogue.offers) if options.pairs else self.catalogue.policy.k
        return Manifest(
            contract=self.bundle.contract.name,
            **vars(versions),
            customers=self.source.origin,
            state=self.source.state,
            key=options.customer,
            k=options.k or places,
            withheld=options.withheld,
            rows=options.rows or ROWS,
            pairs=options.pairs,
            groups=options.groups,
            shards=self.order.shards,
        )

    @property
    def title(self) -> str:
        return self.catalogue.title or self.catalogue.name

    @property
    def offers(self) -> list[str]:
        return [offer.id for offer in self.catalogue.offers]

    def expected(self) -> tuple[pa.Table, int]:
        """Score the bundle's reference; returns the rows, and the number of its customers."""
        reference = pd.read_parquet(self.bundle.path / "reference.parquet")
        names = [name for name in self.schema.names if name != self.schema.key]
        ids = pa.array([str(row) for row in range(len(reference))])
        columns = [pa.array(reference[name], from_pandas=True) for name in names]
        batch = pa.RecordBatch.from_arrays([ids, *columns], names=[self.schema.key, *names])
        return self.scorer()(batch), len(reference)


@dataclass(frozen=True)
class Opened(Work):
    """Work whose customers were opened, too; no row is read yet."""

    source: Source

    def run(self, settings: Settings, tell: Tell, threads: int = 2) -> Summary:
        """Score the order's shard; see `offers.batch.parts.score`."""
        storage = open_parts(self.order.output, settings, Shard(self.order.shard, self.order.shards))
        return parts.score(self.source, self.scorer(threads), storage, self.manifest(), tell)


def work_of(order: Order, settings: Settings, progress: ByteProgress | None = None) -> "Opened | OpenedMarket":
    """Open an order, whether its bundle is of a contract or of a market; raises what `opened` does."""
    if (bundle_path(order.bundle, settings) / "market.yaml").is_file():
        from offers.batch.market import opened_market

        return opened_market(order, settings)
    return opened(order, settings, progress)


def opened(order: Order, settings: Settings, progress: ByteProgress | None = None) -> Opened:
    """Open an order's bundle, catalogue and customers.

    Raises
    ------
    OffersError
        one of them is not there, can't be read, or does not fit the others
    """
    bundle, options = open_bundle(order.bundle, settings), order.options
    catalogue, schema = _rules(order, bundle.contract)
    query = options.query or bundle.contract.source.query or ""
    source = open_customers(order.customers, schema, settings, query, options.version, progress)
    return Opened(order, bundle, catalogue, schema, source)


def work_on(order: Order, customers: Description, settings: Settings) -> Work:
    """Open an order for customers that are read elsewhere; raises what `opened` does of bundle and catalogue."""
    bundle = open_bundle(order.bundle, settings)
    return Work(order, bundle, *_rules(order, bundle.contract), customers)


def _rules(order: Order, contract: Contract) -> tuple[Catalogue, CustomerSchema]:
    catalogue = catalogues.load(order.catalogue or contract.name, contract)
    return catalogue, CustomerSchema(contract, order.options.customer)
