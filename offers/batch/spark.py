"""Spark as the engine where one machine is not enough: partitions of a table of customers are the shards of a run."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

import pyarrow as pa

from offers.batch.customers import CustomerSchema
from offers.batch.order import Opened, Order, opened_on
from offers.batch.parts import Shard, Summary, marks_of, other_customers
from offers.batch.places import delta_table, is_delta, open_parts
from offers.batch.repeats import hashes
from offers.batch.source import Source, cut
from offers.errors import DataError, OffersError, ServiceError, SourceError, StorageError
from offers.settings import Settings
from offers.wording import Say

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_OURS = re.compile(r"offers\.errors\.(\w+): (.*)")
_ARROW_ROWS = 16_384


def session(master: str) -> "SparkSession":
    """Start Spark; an empty master is that of the environment, as `spark-submit` sets it.

    Raises
    ------
    ServiceError
        there is no Java
    """
    from pyspark.sql import SparkSession

    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise ServiceError("Spark needs Java 17 or newer, and there is no program 'java': install it, or set JAVA_HOME")
    builder = SparkSession.builder.appName("offers-score")
    if master:
        os.environ["PYSPARK_PYTHON"] = sys.executable
        builder = builder.master(master).config("spark.driver.host", "127.0.0.1")
        builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", str(_ARROW_ROWS))
    return builder.getOrCreate()


def read_customers(spark: "SparkSession", order: Order, settings: Settings) -> "tuple[DataFrame, str]":
    """Read the order's customers with Spark, and tell which version of a table they are.

    Raises
    ------
    SourceError
        the customers are neither Parquet nor a Delta table, or Spark can't read them
    """
    where = order.customers
    if is_delta(where):
        tables, name = delta_table(where, settings)
        table = tables.open(name, order.options.version)
        if table.metadata().partition_columns:
            raise SourceError(f"{where}: Spark reads Delta tables here without partitions; give a Parquet directory")
        # Delta's Spark package must fit the cluster's Spark; the table's files are Parquet, which every Spark reads.
        return spark.read.parquet(*table.file_uris()), f"version {table.version()}"
    try:
        return spark.read.parquet(where), ""
    except Exception as error:
        line = str(error).split("\n")[0][:200]
        raise SourceError(f"{where}: expected Parquet or a Delta table, which Spark reads ({line})") from None


def score(customers: "DataFrame", order: Order, state: str, settings: Settings, say: Say = print) -> Summary:
    """Score a DataFrame of customers; each partition writes its parts into the order's table, once.

    Parameters
    ----------
    customers : a row for each customer, with the columns that the contract asks for
    state : version of the customers, which a run that goes on must find again

    Raises
    ------
    DataError
        a column is missing, a value breaks the contract, a customer occurs twice, or there is none
    StorageError
        the table was begun with other inputs, or can't be written; parts written before stay
    """
    work = opened_on(order, _source(order.customers, state), settings)
    work.schema.choose(customers.columns, order.customers)
    chosen = _by_place(customers, work.schema)
    total = chosen.rdd.getNumPartitions()
    _refuse_repeats(chosen, work.schema, order.customers)
    say(f"{total} partitions")
    text = order.model_copy(update={"shards": total}).model_dump_json()
    fields = "customers bigint, earlier bigint, parts bigint, error string"
    try:
        rows = chosen.mapInArrow(partial(_score_partition, text, state), fields).collect()
    except Exception as error:
        raise _ours(error) from None
    if wrong := next((row.error for row in rows if row.error), None):
        raise DataError(wrong)
    summary = Summary(*(sum(row[place] for row in rows) for place in range(3)))
    if not summary.customers:
        raise DataError(f"{order.customers}: expected customers, got none")
    return summary


def _by_place(customers: "DataFrame", schema: CustomerSchema) -> "DataFrame":
    """Choose the columns, named by their place: Spark takes a dot in a name for a field of a structure."""
    from pyspark.sql import functions

    quoted = [name.replace("`", "``") for name in schema.names]
    return customers.select(*(functions.col(f"`{name}`").alias(f"c{place}") for place, name in enumerate(quoted)))


def _refuse_repeats(chosen: "DataFrame", schema: CustomerSchema, origin: str) -> None:
    key = f"c{schema.names.index(schema.key)}"
    again = chosen.groupBy(key).count().where("count > 1").orderBy(key).head()
    if again is not None:
        raise DataError(
            f"{origin}: column '{schema.key}': expected each customer once, got {again[0]!r} {again[1]} times; leave"
            " repeats out"
        )


def _score_partition(text: str, state: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Score a partition in a process of Spark's; yields the counts, or a mistake in the customers' values."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    number = context.partitionId() + 1
    try:
        counts, error = _written(_work(text, state), number, batches), None
    except DataError as mistake:
        # No other try would mend it, so the task ends well, and the driver tells.
        counts, error = (0, 0, 0), f"partition {number}: {mistake}"
    columns = [*(pa.array([count], pa.int64()) for count in counts), pa.array([error], pa.string())]
    yield pa.RecordBatch.from_arrays(columns, ["customers", "earlier", "parts", "error"])


@cache
def _work(text: str, state: str) -> Opened:
    """Open the order once in each process."""
    order = Order.model_validate_json(text)
    return opened_on(order, _source(order.customers, state), Settings.from_env())


def _written(work: Opened, number: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, int, int]:
    manifest, scorer, schema = work.manifest(), work.scorer(1), work.schema
    shard = Shard(number, manifest.shards)
    storage = open_parts(work.order.output, Settings.from_env(), shard)
    named = (pa.RecordBatch.from_arrays(batch.columns, schema.names) for batch in batches)
    customers = earlier = count = 0
    with storage.hold(manifest):
        for batch in cut(named, manifest.rows):
            part = number + count * shard.total
            marks = marks_of(hashes(schema.ids(batch, customers + 1)))
            if (before := storage.marks(part)) is None:
                storage.write(part, scorer(batch, customers + 1), marks)
            elif before == marks:
                earlier += len(batch)
            else:
                raise other_customers(part, work.source.origin)
            customers, count = customers + len(batch), count + 1
        following = number + count * shard.total
        if storage.marks(following) is not None:
            raise other_customers(following, work.source.origin)
        storage.finish(scorer.table_schema)
    return customers, earlier, count


def _source(origin: str, state: str) -> Source:
    def unread(rows: int) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError("Spark reads these customers")

    return Source(origin, state, None, unread)


def _ours(error: Exception) -> OffersError:
    """Find our sentence in what Spark says of a task that failed."""
    found = _OURS.findall(str(error))
    if found:
        kind, sentence = found[-1]
        return DataError(sentence) if kind == "DataError" else StorageError(sentence)
    line = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
    return ServiceError(f"Spark stopped: {line.strip()[:300]}")
