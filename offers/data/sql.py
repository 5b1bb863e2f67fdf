"""The rows of a SQL query, through SQLAlchemy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import sqlalchemy
from pandas.errors import DatabaseError
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from offers.contract.contract import Contract
from offers.data.table_file import not_empty, ordered
from offers.errors import SourceError

_AWAY = re.compile(
    r"refused|timed? ?out|name resolution|name or service not known|could not translate host|no route to host"
    r"|unreachable|server closed|gone away|lost connection|starting up|shutting down|can't connect",
    re.IGNORECASE,
)
"""Words by which drivers tell that a database is away; a wrong password or query has others."""


def query(contract: Contract, uri: str) -> tuple[pd.DataFrame, str]:
    """Ask a database for the rows of `contract.source.query`, in the contract's order of columns.

    Returns
    -------
    tuple
        the rows with the types of the query, and the URL without what may be secret

    Raises
    ------
    SourceError
        no such database or driver, the contract has no query, or the database refuses it
    DataError
        columns are missing, unknown or there twice; there are no rows
    """
    url = _url(uri)
    # The query of the URL may hold a whole connection string, password and all.
    origin = url.set(query={}).render_as_string(hide_password=True)
    if not contract.source.query:
        raise SourceError(f"{origin}: expected the SQL text in contract key source.query, which is missing")
    with _errors(url, origin):
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        # Without parameters a % in the query is a %, whatever the driver.
        with engine.connect().execution_options(no_parameters=True) as connection:
            frame = pd.read_sql_query(contract.source.query, connection)
    names = ordered([str(name) for name in frame.columns], contract, origin)
    return not_empty(frame[names], origin), origin


def _url(uri: str) -> sqlalchemy.URL:
    try:
        url = sqlalchemy.make_url(uri)
    except (SQLAlchemyError, ValueError):
        scheme = uri.partition("://")[0]
        raise SourceError(f"source {scheme}://...: expected {scheme}://user:password@host:port/database") from None
    database = url.database or ""
    # SQLite makes an absent file, unless a file: URI forbids it.
    if url.drivername.startswith("sqlite") and not (database.startswith("file:") or Path(database).is_file()):
        raise SourceError(f"{Path(database).absolute()}: there is no such database file")
    return url


@contextmanager
def _errors(url: sqlalchemy.URL, origin: str) -> Iterator[None]:
    passes = False
    try:
        yield
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        reason = f"expected a file, http(s)://, s3:// or a database whose driver is installed ({error})"
    except DBAPIError as error:
        reason, passes = f"the database says: {error.orig}", bool(_AWAY.search(str(error.orig)))
    except (SQLAlchemyError, DatabaseError, OSError, ValueError) as error:
        reason = f"the query can't be read: {error}"
    else:
        return
    first_line = reason.partition("\n")[0]
    shown = first_line.replace(str(url.password), "***") if url.password else first_line
    # A traceback would show the driver's words, password and all.
    raise SourceError(f"{origin}: {shown}", passes) from None
