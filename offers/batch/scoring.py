"""Turns record batches of customers into record batches of ranked offers: encode, score, apply the rules, arbitrate."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import expit

from offers.batch.customers import Customers, CustomerSchema
from offers.batch.scored_table import WORD, table_schema
from offers.batch.trees import SortedTrees, WholeTrees, trees_of
from offers.contract.contract import Contract
from offers.model.encoder import Coded
from offers.model.propensity import PropensityModel
from offers.policy.answers import rankings
from offers.policy.arbitration import Policy
from offers.policy.catalogue import Catalogue
from offers.policy.decided import Decided
from offers.policy.pairs import Standing

BLOCK = 16_384
"""Customers that are scored at a time: their matrices stay small, whatever the batch."""


@dataclass(frozen=True)
class Versions:
    """Names of the bundle, the policy settings and the catalogue that scored, as the ranker writes them."""

    bundle: str
    policy: str
    catalogue: str

    @classmethod
    def of(cls, bundle: str, catalogue: Catalogue) -> "Versions":
        return cls(bundle, catalogue.policy.version, f"{catalogue.name}-{catalogue.version}")


class Scorer:
    """Applies a model and a policy to batches of customers; its decisions are the ranker's.

    Where the catalogue explores, a customer's id is the key of the draw.

    Parameters
    ----------
    schema : columns of the customers
    k : places in an answer; None for the catalogue's
    withheld : whether to write the withheld offers too, with their reasons
    threads : number of cores to use
    groups : whether to write each customer's group of every protected column

    Attributes
    ----------
    table_schema : of the rows that it makes
    """

    def __init__(
        self,
        model: PropensityModel,
        policy: Policy,
        schema: CustomerSchema,
        versions: Versions,
        k: int | None = None,
        withheld: bool = False,
        threads: int = 2,
        groups: bool = False,
    ) -> None:
        self.schema, self.versions = schema, versions
        self._protected = schema.protected if groups else ()
        self.table_schema = table_schema(column.name for column in self._protected)
        self._model, self._policy, self._k, self._withheld = model, policy, k, withheld
        self._threads = threads
        self._trees = _trees(model, policy, schema.contract, threads)
        self._offers = [offer.id for offer in policy.offers]
        self._values = np.array([offer.value for offer in policy.offers])

    def __call__(self, batch: pa.RecordBatch, first_row: int = 1) -> pa.Table:
        """Score a batch.

        Parameters
        ----------
        batch : customers, with the columns of `schema`
        first_row : the number of its first row, for messages

        Returns
        -------
        pyarrow.Table
            rows of the attribute `table_schema`, by customer in the order given, then by rank

        Raises
        ------
        DataError
            a value breaks the contract
        """
        starts = range(0, len(batch), BLOCK)
        parts = [self._block(self.schema.typed(batch.slice(start, BLOCK), first_row + start)) for start in starts]
        return pa.concat_tables(parts) if parts else self.table_schema.empty_table()

    def _block(self, customers: Customers) -> pa.Table:
        standing = self._policy.pairing.stand(customers.columns)
        keys = customers.ids.to_pylist() if self._policy.catalogue.policy.exploration.kind != "none" else None
        decisions = self._policy.decide(standing, self._propensity(customers, standing), self._k, keys)
        table = self._ranked(customers, decisions)
        return pa.concat_tables([table, self._withheld_table(customers, decisions)]) if self._withheld else table

    def _propensity(self, customers: Customers, standing: Standing) -> np.ndarray:
        filler = Coded(np.full(len(customers), np.nan)), np.full(len(customers), np.nan)
        columns = {
            feature.name: customers.columns.get(feature.name, filler[not feature.values])
            for feature in self._model.encoder.features
        }
        matrix = self._model.encoder.encode(columns, self._threads)
        log_odds = self._model.calibrator.log_odds(self._trees.margins(matrix)).astype(np.float64)
        if self._model.layer is not None:
            for place, values in enumerate(self._trees.variants):
                matrix[:, self._trees.columns] = values
                log_odds[:, place] = self._model.layer.mixed(log_odds[:, place], matrix)
        propensity = expit(log_odds)[:, self._policy.pairing.variant]
        return np.where(standing.eligible, propensity, np.nan)

    def _ranked(self, customers: Customers, decided: Decided) -> pa.Table:
        reasons = pa.nulls(len(decided.rank), pa.list_(pa.string()))
        return self._table(customers, decided, decided.customer, decided.offer, pa.array(decided.rank), reasons)

    def _withheld_table(self, customers: Customers, decided: Decided) -> pa.Table:
        customer, offer = np.nonzero(decided.fate)
        answers = rankings(decided, self._policy.offers, self._policy.pairing.eligibility)
        reasons = [[why.code for why in entry.reasons] for answer in answers for entry in answer.withheld]
        ranks = pa.nulls(len(customer), pa.int16())
        return self._table(customers, decided, customer, offer, ranks, pa.array(reasons, pa.list_(pa.string())))

    def _table(
        self,
        customers: Customers,
        decided: Decided,
        customer: np.ndarray,
        offer: np.ndarray,
        rank: pa.Array,
        reasons: pa.Array,
    ) -> pa.Table:
        pair = customer, offer
        columns = [
            customers.ids.take(pa.array(customer)),
            rank.cast(pa.int16()),
            pa.DictionaryArray.from_arrays(pa.array(offer, pa.int32()), self._offers),
            pa.array(decided.propensity[pair], from_pandas=True),
            pa.array(self._values[offer]),
            pa.array(decided.score[pair], from_pandas=True),
            pa.array(decided.action_probability[pair]),
            reasons,
            *(_constant(name, len(customer)) for name in vars(self.versions).values()),
            *(customers.groups(column).take(pa.array(customer)).cast(WORD) for column in self._protected),
        ]
        return pa.Table.from_arrays(columns, schema=self.table_schema)


def _trees(model: PropensityModel, policy: Policy, contract: Contract, threads: int) -> SortedTrees | WholeTrees:
    """Sort the model's trees by the offer columns that they use, with each variant's offer columns encoded."""
    attributes, first = policy.pairing.attributes, policy.pairing.variants
    filler = {
        feature.name: np.full(len(first), None, object) if feature.values else np.full(len(first), np.nan)
        for feature in model.encoder.features
    }
    encoded = model.encoder.encode(filler | {name: values[first] for name, values in attributes.items()}, 1)
    columns = [model.encoder.names.index(name) for name in attributes]
    return trees_of(model.booster, columns, encoded[:, columns], threads)


def _constant(word: str, length: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int32)), [word])
