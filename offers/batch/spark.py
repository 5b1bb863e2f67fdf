"""Spark as the engine where one machine is not enough: partitions of a table of customers are the shards of a run."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from offers import errors
from offers.batch.customers import CustomerSchema
from offers.batch.delta import delta_files, delta_rows
from offers.batch.order import Order, Work, work_on
from offers.batch.parts import Shard, Summary, marks_of, other_customers
from offers.batch.places import delta_table, is_delta, open_parts
from offers.batch.repeats import hashes
from offers.batch.source import Description, cut
from offers.bundle.location import open_bundle
from offers.errors import DataError, OffersError, ServiceError, SourceError
from offers.settings import Settings
from offers.wording import Say, counted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Fetch = Callable[[Order, Settings], Order]
_OURS = re.compile(r"offers\.errors\.(\w+): (.*)")
_TRACE = ("at ", "... ", "Driver stacktrace:")
"""How lines of Java's traces begin that give no reason."""
_ARROW_ROWS = 16_384
_MOST_PARTITIONS = 1_000
"""Of a Delta table; with more files than that, a partition has several."""


def session(master: str) -> "SparkSession":
    """Start Spark; an empty master is that of the environment, as `spark-submit` sets it.

    Raises
    ------
    ServiceError
        there is no Java, or Spark can't start with it
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    java = find_java()
    builder = SparkSession.builder.appName("offers-score")
    if master:
        os.environ["PYSPARK_PYTHON"] = sys.executable
        builder = builder.master(master).config("spark.driver.host", "127.0.0.1")
        builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", str(_ARROW_ROWS))
    try:
        return builder.getOrCreate()
    except PySparkException:
        raise ServiceError(f"Spark needs Java 17 or newer, and can't start with {java}: set JAVA_HOME") from None


def find_java() -> str:
    """Find the Java that Spark would start; raises `ServiceError` where there is none."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if java is None:
        place = f"JAVA_HOME, {home}, has no program bin/java" if home else "there is no program 'java'"
        raise ServiceError(f"Spark needs Java 17 or newer, and {place}: install it, or set JAVA_HOME")
    return java


def read_customers(spark: "SparkSession", order: Order, settings: Settings) -> "tuple[DataFrame, str]":
    """Read the order's customers with Spark, and tell which version of a table they are.

    Raises
    ------
    SourceError
        the customers are neither Parquet nor a Delta table, or can't be read
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    where = order.customers
    if is_delta(where):
        return _delta_rows(spark, order, settings)
    try:
        return spark.read.parquet(where), ""
    except (PySparkException, Py4JJavaError) as error:
        line = str(error).split("\n")[0][:200]
        raise SourceError(f"{where}: expected Parquet or a Delta table, which Spark reads ({line})") from None


def _delta_rows(spark: "SparkSession", order: Order, settings: Settings) -> "tuple[DataFrame, str]":
    """Read a Delta table's files in Spark's processes, with the reader of the loop.

    Spark's own reader would need a package for Delta, and another for the object store, that fit the cluster's Spark.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    tables, name = delta_table(order.customers, settings)
    table = tables.open(name, order.options.version)
    paths, schema = delta_files(table)
    needed = CustomerSchema(open_bundle(order.bundle, settings).contract, order.options.customer).names
    columns = [column for column in schema.names if column in needed]
    by_place = pa.schema([schema.field(column).with_name(f"c{place}") for place, column in enumerate(columns)])
    read = partial(_read_files, order.customers, table.version(), columns)
    if not paths:
        return spark.createDataFrame([], from_arrow_schema(by_place)).toDF(*columns), f"version {table.version()}"
    slices = min(len(paths), _MOST_PARTITIONS)
    files = spark.sparkContext.parallelize([(path,) for path in paths], slices).toDF("path string")
    return files.mapInArrow(read, from_arrow_schema(by_place)).toDF(*columns), f"version {table.version()}"


def _read_files(
    where: str, version: int, columns: list[str], batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    paths = {path for batch in batches for path in batch.column(0).to_pylist()}
    tables, name = delta_table(where, Settings.from_env())
    names = [f"c{place}" for place in range(len(columns))]
    for batch in delta_rows(tables, name, tables.open(name, version), columns, _ARROW_ROWS, paths):
        yield pa.RecordBatch.from_arrays(batch.columns, names)


def as_it_is(order: Order, settings: Settings) -> Order:
    """Leave an order's bundle and catalogue where they are."""
    return order


def score(
    customers: "DataFrame", order: Order, state: str, settings: Settings, say: Say = print, fetch: Fetch = as_it_is
) -> Summary:
    """Score a DataFrame of customers; each partition writes its parts into the order's table, once.

    Parameters
    ----------
    customers : a row for each customer, with the columns that the contract asks for
    state : version of the customers, which a run that goes on must find again
    fetch : puts copies of bundle and catalogue into an order; each of Spark's processes calls it, on its machine

    Raises
    ------
    DataError
        a column is missing, a value breaks the contract, a customer occurs twice, or there is none
    StorageError
        the table was begun with other inputs, or can't be written; parts written before stay
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    work = work_on(fetch(order, settings), Description(order.customers, state), settings)
    work.schema.choose(customers.columns, order.customers)
    chosen = _by_place(customers, work.schema)
    total = chosen.rdd.getNumPartitions()
    say(counted(total, "partition"))
    text = order.model_copy(update={"shards": total}).model_dump_json()
    fields = "customers bigint, earlier bigint, parts bigint, error string"
    try:
        _refuse_repeats(chosen, work.schema, order.customers)
        rows = chosen.mapInArrow(partial(_score_partition, text, state, fetch), fields).collect()
    except (PySparkException, Py4JJavaError) as error:
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


def _score_partition(
    text: str, state: str, fetch: Fetch, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Score a partition in a process of Spark's; yields the counts, or a mistake in the customers' values."""
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None
    number = context.partitionId() + 1
    try:
        counts, error = _written(_work(text, state, fetch), number, batches), None
    except DataError as mistake:
        # No other try would mend it, so the task ends well, and the driver tells.
        counts, error = (0, 0, 0), f"partition {number}: {mistake}"
    columns = [*(pa.array([count], pa.int64()) for count in counts), pa.array([error], pa.string())]
    yield pa.RecordBatch.from_arrays(columns, ["customers", "earlier", "parts", "error"])


@cache
def _work(text: str, state: str, fetch: Fetch) -> Work:
    """Open the order once in each process."""
    order, settings = Order.model_validate_json(text), Settings.from_env()
    return work_on(fetch(order, settings), Description(order.customers, state), settings)


def _written(work: Work, number: int, batches: Iterator[pa.RecordBatch]) -> tuple[int, int, int]:
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


def _ours(error: Exception) -> Exception:
    """Find our sentence in what Spark says of a task that failed; an exception in our own code stays what it is."""
    from pyspark.errors import PythonException

    found = _OURS.findall(str(error))
    if found:
        kind, sentence = found[-1]
        return cast(type[OffersError], getattr(errors, kind))(sentence)
    if isinstance(error, PythonException):
        return cast(Exception, error)
    said = (line.strip().removeprefix(": ") for line in reversed(str(error).splitlines()))
    line = next((line for line in said if line and not line.startswith(_TRACE)), type(error).__name__)
    return ServiceError(f"Spark stopped: {line[:300]}")
