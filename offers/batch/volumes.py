"""What a scored table holds: its volumes, and its first offers beside those that the bundle's reference would get."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offers.batch import places
from offers.batch.market import OpenedMarket
from offers.batch.order import Opened
from offers.drift import statistics
from offers.record import Record
from offers.settings import Settings

BINS = 10
_COLUMNS = ["rank", "offer", "propensity", "score"]


class OfferVolume(Record):
    """An offer in a table.

    Attributes
    ----------
    first, answers : customers who get it first, and customers who get it at all
    propensity, score : means where it is first, the score in EUR; None where it is nowhere first
    reference : share of the reference's customers who would get it first
    """

    offer: str
    first: int
    answers: int
    propensity: float | None
    score: float | None
    reference: float


class Volumes(Record):
    """The summary of a scored table.

    Attributes
    ----------
    customers, answered : customers who were scored, and those who get an offer
    reference, reference_answered : the same of the bundle's reference rows, scored by the same policy
    edges : upper ends of all bins of the first offer's propensity but the last, deciles of the reference
    bins, reference_bins : customers whose first offer's propensity is in each bin
    psi, noise : population stability index of `bins`, and what chance alone reaches in 1 of 100; None where nobody has
        an offer
    """

    bundle: str
    policy: str
    catalogue: str
    customers: int
    answered: int
    reference: int
    reference_answered: int
    offers: tuple[OfferVolume, ...]
    edges: tuple[float, ...]
    bins: tuple[int, ...]
    reference_bins: tuple[int, ...]
    psi: float | None
    noise: float | None


class _Counts:
    """Sums over the rows of a scored table, file by file."""

    def __init__(self, edges: np.ndarray) -> None:
        self.edges, self.bins = edges, np.zeros(len(edges) + 1, np.int64)
        self.first, self.answers = Counter[str](), Counter[str]()
        self.propensity, self.score = Counter[str](), Counter[str]()

    def add(self, rows: pa.Table) -> None:
        rows = rows.filter(pc.is_valid(rows["rank"]))
        rows = rows.set_column(rows.column_names.index("offer"), "offer", rows["offer"].cast(pa.string()))
        first = _first(rows)
        self.bins += statistics.bin_counts(first["propensity"].to_numpy(), self.edges)[: len(self.bins)]
        self.answers.update(dict(zip(*_counted(rows["offer"]), strict=True)))
        sums = first.group_by("offer").aggregate([("offer", "count"), ("propensity", "sum"), ("score", "sum")])
        for entry in sums.to_pylist():
            offer = entry["offer"]
            self.first[offer] += entry["offer_count"]
            self.propensity[offer] += entry["propensity_sum"]
            self.score[offer] += entry["score_sum"]


def volumes(done: Opened | OpenedMarket, customers: int, settings: Settings) -> Volumes:
    """Count a complete scored table, a file at a time.

    Parameters
    ----------
    customers : how many were scored; those without an offer do not stand in the table

    Raises
    ------
    DataError
        the table is not complete
    """
    scored, reference = done.expected()
    expected = _first(scored)
    edges = statistics.bin_edges(expected["propensity"].to_numpy(), BINS)
    counts, before = _Counts(edges), _Counts(edges)
    before.add(expected)
    for _, rows in places.read_scored(done.order.output, _COLUMNS, settings):
        counts.add(rows)
    answered, manifest = counts.first.total(), done.manifest()
    compared = answered and len(expected)
    return Volumes(
        bundle=manifest.bundle,
        policy=manifest.policy,
        catalogue=manifest.catalogue,
        customers=customers,
        answered=answered,
        reference=reference,
        reference_answered=len(expected),
        offers=tuple(_volumes(done.offers, counts, before)),
        edges=tuple(edges.tolist()),
        bins=tuple(counts.bins.tolist()),
        reference_bins=tuple(before.bins.tolist()),
        psi=round(statistics.psi(before.bins, counts.bins), 4) if compared else None,
        noise=round(statistics.psi_noise(before.bins, answered), 4) if compared else None,
    )


def _first(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows["rank"], 1)).select(_COLUMNS)


def _counted(words: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    counts = pc.value_counts(words)
    return counts.field("values").to_pylist(), counts.field("counts").to_pylist()


def _volumes(names: Iterable[str], counts: _Counts, before: _Counts) -> Iterable[OfferVolume]:
    total = max(1, before.first.total())
    for offer in names:
        first = counts.first[offer]
        yield OfferVolume(
            offer=offer,
            first=first,
            answers=counts.answers[offer],
            propensity=counts.propensity[offer] / first if first else None,
            score=counts.score[offer] / first if first else None,
            reference=before.first[offer] / total,
        )
