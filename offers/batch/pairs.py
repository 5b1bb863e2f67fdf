"""A scored table as a matrix of customers and offers, on disk, and a plan as a table."""

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from offers.batch import places
from offers.batch.allocation import Plan
from offers.batch.exposure import Segments
from offers.batch.scored_table import group_column
from offers.errors import DataError, StorageError
from offers.files import os_errors, settle
from offers.policy.catalogue import Catalogue
from offers.settings import Settings

_COLUMNS = ["customer", "rank", "offer", "score", "catalogue"]


@dataclass(frozen=True)
class ScoredPairs:
    """Customers, and the expected earnings of each offer to each of them, in EUR; -inf where they can't get it.

    Attributes
    ----------
    scores : memmap, shape (n_customers, n_segments * n_offers); a customer can get the offers of one segment
    sizes : ndarray of int, shape (n_segments,), the number of customers in each segment
    """

    customers: pa.ChunkedArray
    scores: np.ndarray
    sizes: np.ndarray


@contextmanager
def read_scored(
    where: str, catalogue: Catalogue, segments: Segments, settings: Settings, scratch: Path
) -> Iterator[ScoredPairs]:
    """Read the Parquet or Delta table that `offers score` wrote; a temporary file in `scratch` holds the scores.

    Raises
    ------
    DataError
        the table is not complete, or is of another catalogue
    """
    columns = [*_COLUMNS, *map(group_column, segments.columns)]
    with os_errors(scratch), tempfile.TemporaryFile(dir=scratch) as file:
        names, sizes = list[pa.Array](), np.zeros(len(segments), np.int64)
        for origin, table in places.read_scored(where, columns, settings):
            ids, segment = _append(file, origin, table, catalogue, segments)
            names.append(ids)
            sizes += np.bincount(segment, minlength=len(sizes))
        customers = pa.chunked_array(names, pa.string())
        if not len(customers):
            raise DataError(f"{where}: no customer there has an offer that is worth its cost")
        shape = len(customers), len(segments) * len(catalogue.offers)
        yield ScoredPairs(customers, np.memmap(file, np.float32, "r", shape=shape), sizes)


def _append(
    file: IO[bytes], origin: str, table: pa.Table, catalogue: Catalogue, segments: Segments
) -> tuple[pa.Array, np.ndarray]:
    """Write the scores of a part's customers to `file`; returns their ids, and the segment of each."""
    table = table.filter(pc.is_valid(table["rank"]))
    version = f"{catalogue.name}-{catalogue.version}"
    if others := set(table["catalogue"].unique().to_pylist()) - {version}:
        raise DataError(f"{origin}: expected scores of catalogue {version}, got those of {sorted(others)[0]}")
    ids = table["customer"].combine_chunks().dictionary_encode()
    customer, n_offers = ids.indices.to_numpy(), len(catalogue.offers)
    offer = pc.index_in(table["offer"].cast(pa.string()), pa.array([offer.id for offer in catalogue.offers])).to_numpy()
    segment = np.zeros(len(ids.dictionary), np.intp)
    if segments.columns:
        words = [table[group_column(name)].cast(pa.string()).to_numpy() for name in segments.columns]
        segment[customer] = segments.of(words)
    scores = np.full((len(ids.dictionary), len(segments) * n_offers), -np.inf, np.float32)
    scores[customer, segment[customer] * n_offers + offer] = table["score"].to_numpy()
    file.write(scores.tobytes())
    file.flush()
    return ids.dictionary, segment


def write_plan(plan: Plan, pairs: ScoredPairs, catalogue: Catalogue, date: dt.date | None, output: Path) -> None:
    """Write customer, offer, score, cost and date of each contact into a file, whole or not at all."""
    if output.is_dir():
        raise StorageError(f"{output}: expected a file, got a directory; name the file in it")
    order = np.argsort(plan.customer, kind="stable")
    customer, column = plan.customer[order], plan.offer[order]
    offer = column % len(catalogue.offers)
    table = pa.table(
        {
            "customer": pairs.customers.take(pa.array(customer)),
            "offer": pa.array([offer.id for offer in catalogue.offers]).take(pa.array(offer)),
            "score": np.asarray(pairs.scores[customer, column], np.float64),
            "cost": np.array([offer.cost for offer in catalogue.offers])[offer],
        }
    )
    if date:
        table = table.append_column("date", pa.repeat(pa.scalar(date, pa.date32()), len(table)))
    with os_errors(output):
        settle(output, lambda unfinished: parquet.write_table(table, unfinished))
