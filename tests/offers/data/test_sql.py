"""Rows of a SQL query, and what databases refuse."""

import re
import sqlite3
import traceback
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import OperationalError

from offers.data import sql
from offers.data.sources import ingest
from offers.errors import DataError, SourceError
from offers.settings import Settings
from tests.support.small import SMALL, contract, write

QUERY = "select y, age, job from customers where job like 'c%' order by age -- 50 %(of) :them"


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "warehouse.db"
    connection = sqlite3.connect(path)
    connection.execute("create table customers (age integer, job text, y text, phone text)")
    rows = [(41, "clerk", "yes", "1"), (30, "cook", None, "2"), (50, "retired", "no", "3")]
    connection.executemany("insert into customers values (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


def test_a_query(database: str, settings: Settings) -> None:
    got = ingest(contract(query=QUERY), settings, database)
    assert got.frame.to_dict("list") == {"age": [30, 41], "job": ["cook", "clerk"], "y": [None, "yes"]}
    assert str(got.frame["age"].dtype) == "int64"
    assert (got.origin, got.sha256) == (database, None)


class FormattingDialect(SQLiteDialect_pysqlite):
    """Formats the SQL with its parameters, as drivers of the `format` style do."""

    supports_statement_cache = True

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        cursor.execute(statement % tuple(parameters))


def test_a_percent_sign_is_one_in_every_driver(
    database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sqlalchemy.dialects.registry.impls, "formatting", lambda: FormattingDialect)
    assert len(ingest(contract(query=QUERY), settings, database.replace("sqlite", "formatting")).frame) == 2


def test_the_contracts_own_database(database: str, settings: Settings) -> None:
    assert len(ingest(contract(uri=database, query=QUERY, sha256="0" * 64), settings).frame) == 2


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        (None, SourceError, r"expected the SQL text in contract key source\.query, which is missing"),
        ("select * from absent", SourceError, "the database says: no such table: absent$"),
        ("selec", SourceError, 'the database says: near "selec": syntax error$'),
        ("delete from customers", SourceError, "does not return rows"),
        ("select * from customers", DataError, "not in the contract: phone. 'extra_columns: ignore'"),
        ("select age, age, job, y from customers", DataError, "there twice: age$"),
        ("select age, job, y from customers where age > 99", DataError, "expected rows, got column names only"),
    ],
)
def test_queries_that_give_no_rows(
    database: str, settings: Settings, query: str | None, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{re.escape(database)}: .*{message}"):
        ingest(contract(query=query), settings, database)
    assert len(ingest(contract(query="select age, job, y from customers"), settings, database).frame) == 3


def test_a_database_file_is_never_made(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SourceError, match=re.escape(f"{tmp_path / 'absent.db'}: there is no such database file")):
        ingest(contract(query=QUERY), settings, f"sqlite:///{tmp_path}/absent.db")
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(SourceError, match="the database says: unable to open database file"):
        ingest(contract(query=QUERY), settings, f"sqlite:///file:{tmp_path}/absent.db?mode=ro&uri=true")


def test_a_file_that_is_no_database(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SourceError, match="the database says: file is not a database"):
        ingest(contract(query=QUERY), settings, f"sqlite:///{write(tmp_path, SMALL)}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bank/small.csv", r"expected a file, http\(s\)://, s3:// or a database whose driver is installed"),
        ("postgresql+nothing://me:${TIGER}@h/d", "whose driver is installed"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3D${TIGER}", "whose driver is installed"),
        ("postgresql+psycopg://me:${TIGER}@h:port/d", "expected .*://user:password@host:port/database"),
        ("://me:${TIGER}@h", "expected .*://user:password@host:port/database"),
    ],
)
def test_databases_that_cant_be_asked(
    settings: Settings, url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGER", "tiger")
    with pytest.raises(SourceError, match=message) as raised:
        ingest(contract(query=QUERY), settings, url)
    assert "tiger" not in str(raised.value)


def test_a_password_in_the_databases_words_is_never_shown() -> None:
    url = sqlalchemy.make_url("postgresql+psycopg://me:tiger@bank/d")
    refused = OperationalError("select 1", {}, Exception("no entry for me:tiger@bank\nDETAIL"))
    with (
        pytest.raises(SourceError, match=r"^d: the database says: no entry for me:\*\*\*@bank$") as raised,
        sql._errors(url, "d"),
    ):
        raise refused
    assert "tiger" not in "".join(traceback.format_exception(raised.value))
