"""The rows of a SQL query, through SQLAlchemy."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from offers.contract.contract import Contract
from offers.contract.values import word
from offers.data.table_file import Select, exact_frame, not_empty, ordered
from offers.errors import SourceError

_AWAY = re.compile(
    r"refused|timed? ?out|name resolution|name or service not known|could not translate host|no route to host"
    r"|unreachable|server closed|gone away|lost connection|starting up|shutting down|can't connect",
    re.IGNORECASE,
)
"""Words by which drivers tell that a database is away; a wrong password or query has others."""

# By database: the extra with a driver, the sentence that says what it installs, and the start of its URL.
_EXTRAS = {
    "postgresql": ("postgresql", "pg8000 is installed", "postgresql+pg8000://"),
    "mssql": ("sqlserver", "python-tds is installed", "mssql+pytds://"),
}


def query(contract: Contract, uri: str) -> pd.DataFrame:
    """Run `contract.source.query` on a database; returns its rows, in the contract's order of columns.

    Returns
    -------
    DataFrame
        the rows, each column in a type that holds its cells exactly

    Raises
    ------
    SourceError
        there is no such database or driver, the contract has no query, or the database refuses it
    DataError
        columns are missing, unknown or occur twice; there are no rows
    """
    origin = shown(uri)
    if not contract.source.query:
        raise SourceError(f"{origin}: expected the SQL text in contract key source.query, which is missing")
    return select(uri, contract.source.query, lambda names: ordered(names, contract, origin))


def select(uri: str, text: str, choose: Select) -> pd.DataFrame:
    """Run a query and keep the columns that `choose` picks; raises what `query` does."""
    url, origin = _url(uri), shown(uri)
    with _errors(url, origin):
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        # Without parameters every driver takes a % in the query literally.
        with engine.connect().execution_options(no_parameters=True) as connection:
            result = connection.exec_driver_sql(text)
            names, rows = list(map(str, result.keys())), result.fetchall()
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    return not_empty(exact_frame(pa.table({name: _array(columns[name]) for name in choose(names)})), origin)


def stream(uri: str, text: str, choose: Select, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the result of `select`, `rows` rows at a time, by a server-side cursor where the driver has one."""
    url, origin = _url(uri), shown(uri)
    with _errors(url, origin):
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        options = {"no_parameters": True, "stream_results": True, "max_row_buffer": rows}
        with engine.connect().execution_options(**options) as connection:
            result = connection.exec_driver_sql(text)
            names = list(map(str, result.keys()))
            places = [(name, names.index(name)) for name in choose(names)]
            while chunk := result.fetchmany(rows):
                yield pa.RecordBatch.from_pydict({name: _array([row[at] for row in chunk]) for name, at in places})


def shown(uri: str) -> str:
    """Show a database's URL without password and query; the query may be a whole connection string with a password."""
    return _url(uri).set(query={}).render_as_string(hide_password=True)


def _array(cells: Sequence[Any]) -> pa.Array:
    """Convert cells to a type that holds them exactly, or to words where no single type does."""
    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError, ValueError):
        return pa.array(
            [None if cell is None else word(cell).encode("utf-8", "replace") for cell in cells], pa.string()
        )


def _url(uri: str) -> sqlalchemy.URL:
    try:
        url = sqlalchemy.make_url(uri)
    except (SQLAlchemyError, ValueError):
        scheme = uri.partition("://")[0]
        raise SourceError(f"source {scheme}://...: expected {scheme}://user:password@host:port/database") from None
    database = url.database or ""
    # SQLite would create an absent file, unless a file: URI forbids it.
    if url.drivername.startswith("sqlite") and not (database.startswith("file:") or Path(database).is_file()):
        raise SourceError(f"{Path(database).absolute()}: there is no such database file")
    return url


@contextmanager
def _errors(url: sqlalchemy.URL, origin: str) -> Iterator[None]:
    passes = False
    try:
        yield
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        extra = _EXTRAS.get(url.get_backend_name())
        remedy = f"; {extra[1]} by 'make setup EXTRA={extra[0]}', and is asked as {extra[2]}" if extra else ""
        reason = f"expected a file, http(s)://, s3:// or a database whose driver is installed ({error}){remedy}"
    except DBAPIError as error:
        reason, passes = f"the database says: {error.orig}", bool(_AWAY.search(str(error.orig)))
    except (SQLAlchemyError, OSError, ValueError) as error:
        reason = f"the query can't be read: {error}"
    else:
        return
    first_line = reason.partition("\n")[0]
    cause = first_line.replace(str(url.password), "***") if url.password else first_line
    # A traceback would show the driver's message, which may contain the password.
    raise SourceError(f"{origin}: {cause}", passes) from None
