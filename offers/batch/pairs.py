"""A scored table as a matrix of customers and offers, on disk, and a plan as a table."""

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

from offers.batch.allocation import Plan
from offers.errors import DataError, StorageError
from offers.files import os_errors, sync
from offers.policy.catalogue import Catalogue


@dataclass(frozen=True)
class ScoredPairs:
    """Customers, and what each offer is expected to earn from them in EUR: -inf where it is not to be had."""

    customers: pa.ChunkedArray
    scores: np.ndarray


@contextmanager
def read_scored(directory: Path, catalogue: Catalogue) -> Iterator[ScoredPairs]:
    """Read what `offers score` wrote; the scores lie in a file beside it that goes afterwards.

    Raises
    ------
    DataError
        it holds no complete part, is of another catalogue, or a customer stands in two parts
    """
    with os_errors(directory):
        paths = sorted(directory.glob("part-*.parquet"))
        if not paths:
            raise DataError(f"{directory}: expected the parts that 'offers score' writes, got none")
        with tempfile.TemporaryFile(dir=directory) as file:
            names = [_append(file, path, catalogue) for path in paths]
            customers = pa.chunked_array(names)
            if not len(customers):
                raise DataError(f"{directory}: no customer there has an offer that is worth its cost")
            shape = len(customers), len(catalogue.offers)
            yield ScoredPairs(customers, np.memmap(file, np.float32, "r", shape=shape))


def _append(file: IO[bytes], path: Path, catalogue: Catalogue) -> pa.Array:
    columns = ["customer", "rank", "offer", "score", "catalogue"]
    try:
        table = parquet.read_table(path, columns=columns)
    except (pa.ArrowException, KeyError, ValueError):
        raise DataError(f"{path}: expected a part that 'offers score' wrote, but it can't be read") from None
    table = table.filter(pc.is_valid(table["rank"]))
    version = f"{catalogue.name}-{catalogue.version}"
    if others := set(table["catalogue"].unique().to_pylist()) - {version}:
        raise DataError(f"{path}: expected scores of catalogue {version}, got those of {sorted(others)[0]}")
    ids = table["customer"].combine_chunks().dictionary_encode()
    offer = pc.index_in(table["offer"].cast(pa.string()), pa.array([offer.id for offer in catalogue.offers]))
    scores = np.full((len(ids.dictionary), len(catalogue.offers)), -np.inf, np.float32)
    scores[ids.indices.to_numpy(), offer.to_numpy()] = table["score"].to_numpy()
    file.write(scores.tobytes())
    file.flush()
    return ids.dictionary


def write_plan(plan: Plan, pairs: ScoredPairs, catalogue: Catalogue, output: Path) -> None:
    """Write customer, offer, score and cost of each contact; the file is there whole or not at all."""
    if output.is_dir():
        raise StorageError(f"{output}: expected a file, got a directory; name the file in it")
    order = np.argsort(plan.customer, kind="stable")
    customer, offer = plan.customer[order], plan.offer[order]
    table = pa.table(
        {
            "customer": pairs.customers.take(pa.array(customer)),
            "offer": pa.array([offer.id for offer in catalogue.offers]).take(pa.array(offer)),
            "score": np.asarray(pairs.scores[customer, offer], np.float64),
            "cost": np.array([offer.cost for offer in catalogue.offers])[offer],
        }
    )
    unfinished = output.with_name(f".{output.name}.unfinished")
    with os_errors(output):
        try:
            parquet.write_table(table, unfinished)
            sync(unfinished)
            unfinished.rename(output)
        finally:
            unfinished.unlink(missing_ok=True)
