"""Rows from files, http, S3, SQL and the simulation; every mistake of a caller is one sentence."""

import fcntl
import hashlib
import io
import multiprocessing
import os
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Event, Thread
from typing import Any

import pandas as pd
import pytest
import sqlalchemy
from s3_double import S3Double
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import OperationalError

from offers import contract as contracts
from offers import simulate, sources
from offers.contract import Contract
from offers.errors import DataError, SourceError, StorageError
from offers.settings import S3Settings, Settings
from offers.sources import fetch, ingest

SMALL = b'age;job;y\n30;clerk;no\n41;"retired";yes\n'
LARGE = b"age;job;y\n" + b"".join(b"%d;clerk;no\n" % (20 + row % 50) for row in range(50_000))


def contract(**source: Any) -> Contract:
    return Contract.model_validate(
        {
            "name": "small",
            "title": "Small",
            "source": {"file": "small.csv", "format": {"separator": ";"}} | source,
            "target": {"column": "y", "positive": "yes", "negative": "no"},
            "columns": [
                {"name": "age", "role": "customer", "type": "integer"},
                {"name": "job", "role": "customer", "type": "category", "values": ["clerk", "retired"]},
                {"name": "y", "role": "target", "type": "category"},
            ],
            "gate": [{"metric": "auc", "at_least": 0.5}],
        }
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: bytes | str, name: str = "rows.csv") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def test_cells_are_the_text_that_was_written(write: Any, settings: Settings) -> None:
    path = write('age;job;y\r\n030;"a;b";no\r\n;"";yes\r\nNA;"two\nlines ""quoted""";null\r\n')
    got = ingest(contract(), settings, path)
    assert got.frame.to_dict("list") == {
        "age": ["030", None, "NA"],
        "job": ["a;b", "", 'two\nlines "quoted"'],
        "y": ["no", "yes", "null"],
    }
    assert {str(dtype) for dtype in got.frame.dtypes} == {"string"}
    assert got.frame.dtypes["age"].storage == "pyarrow"
    assert (got.origin, got.sha256) == (path, sha256(Path(path).read_bytes()))


def test_columns_come_in_the_contracts_order(write: Any, settings: Settings) -> None:
    got = ingest(contract(), settings, write("y;age;job\nno;30;clerk\n"))
    assert got.frame.to_dict("list") == {"age": ["30"], "job": ["clerk"], "y": ["no"]}


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("\ufeffage;job;y\n30;Ärztin;no\n".encode(), {"separator": ";"}),
        ("\n\nage;job;y\n\n30;Ärztin;no".encode(), {"separator": ";", "encoding": "UTF-8"}),
        ("age;job;y\n30;Ärztin;no\n".encode("cp1252"), {"separator": ";", "encoding": "cp1252"}),
        ("age\tjob\ty\n30\tÄrztin\tno\n".encode("utf-16"), {"separator": "\t", "encoding": "utf-16"}),
        ("age|'job'|y\n30|'Ärztin'|no\n".encode(), {"separator": "|", "quote": "'"}),
    ],
)
def test_the_contract_says_how_a_file_is_written(
    write: Any, settings: Settings, content: bytes, form: dict[str, str]
) -> None:
    got = ingest(contract(format=form), settings, write(content))
    assert got.frame.to_dict("list") == {"age": ["30"], "job": ["Ärztin"], "y": ["no"]}


def test_a_last_cell_of_two_lines_is_whole(write: Any, settings: Settings) -> None:
    got = ingest(contract(), settings, write('age;job;y\n30;clerk;"n\no"\n'))
    assert got.frame["y"].tolist() == ["n\no"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"age;job;y\n", "expected rows, got column names only"),
        (b"age;job\n1;2\n", r"expected the 3 columns of contract small; missing: y$"),
        (b"Age ;jobs;y;z\n1;2;3;4\n", r"missing: age \(is it 'Age '\?\), job \(is it 'jobs'\?\); not in the .*z$"),
        (b"age;job;y;age\n1;2;3;4\n", "there twice: age$"),
        (b"age;job;y\n1;2;3\n\n4;5\n", r"expected 3 cells in each row, got 2 in row 3 \(the header is .*: '4;5'"),
        (LARGE + b"1;2;3;4\n" + LARGE[10:], "expected 3 cells in each row, got 4 in row 50002 "),
        (b'age;job;y\n1;2;"3\n4;5;6\n', 'the " that opens the last cell is never closed'),
        (b'age;job;y\n1;2;"3\n4;5;6', 'the " that opens the last cell is never closed'),
        (b'age;job;y\n1;2;"3\n' + LARGE * 8, "it can't be read .*is a \" never closed?"),
    ],
)
def test_rows_that_break_the_form(write: Any, settings: Settings, content: bytes, message: str) -> None:
    path = write(content)
    with pytest.raises(DataError, match=f"^{re.escape(path)}: .*{message}"):
        ingest(contract(), settings, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected rows, but the file is empty"),
        (b"age,job,y\n1,2,3\n", r"separated by ';' \(contract key source\.format\.separator\), .* seems to be ','"),
        (b'"age"\t"job"\t"y"\n', r"it seems to be '\\t'"),
        (b"<!doctype html>\n<p>Log in", "the first line is '<!doctype html>'"),
        (b"\n\n", "the first line is ''"),
        (
            b"age;job;y\n1;2;3\n4;caf\xe9;5\n",
            r"expected utf-8 \(contract key source\.format\.encoding\), but line 3 is not",
        ),
        (b"age;jo\xe9;y\n1;2;3\n", "line 1 is not"),
        ("age;job;y\n1;2;3\n".encode("utf-16"), "line 1 is not"),
        (LARGE + b"1;\xff;3\n", "line 50002 is not"),
    ],
)
def test_files_of_another_form(write: Any, settings: Settings, content: bytes, message: str) -> None:
    path = write(content)
    with pytest.raises(SourceError, match=f"^{re.escape(path)}: .*{message}"):
        ingest(contract(), settings, path)


def test_an_encoding_that_the_file_has_not(write: Any, settings: Settings) -> None:
    with pytest.raises(SourceError, match=r"expected utf-16 \(contract key .*\), but line 3 is not"):
        ingest(contract(format={"separator": ";", "encoding": "utf-16"}), settings, write(SMALL))


@pytest.mark.parametrize("encoding", ["utf-9", "hex"])
def test_an_encoding_that_is_none(write: Any, settings: Settings, encoding: str) -> None:
    with pytest.raises(SourceError, match=rf"contract key source\.format\.encoding: .*{encoding}"):
        ingest(contract(format={"separator": ";", "encoding": encoding}), settings, write(SMALL))


def test_a_parquet_file_keeps_its_types(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "rows.parquet"
    rows = pd.DataFrame({"y": [True, False], "age": [30, 41], "job": ["clerk", None]}, index=[7, 8])
    rows.to_parquet(path)
    frame = ingest(contract(), settings, str(path)).frame
    assert list(frame.columns) == ["age", "job", "y"]
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "object", "bool"]
    assert frame["age"].tolist() == [30, 41]
    assert list(frame.index) == [0, 1]
    rows.set_index("age").to_parquet(path)
    assert ingest(contract(), settings, str(path)).frame["age"].tolist() == [30, 41]


def test_a_parquet_file_of_other_columns_or_broken(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"age": [30], "job": ["clerk"]}).to_parquet(path)
    with pytest.raises(DataError, match=r"rows\.parquet: .* missing: y"):
        ingest(contract(), settings, str(path))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"rows\.parquet: expected a Parquet file, but it can't be read"):
        ingest(contract(), settings, str(path))


def test_paths_that_hold_no_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").touch()
    for path, reason in {
        "absent.csv": "there is no such file",
        "": "expected a file, got a directory; name the file in it",
        "file/in.csv": "can't be read: Not a directory",
    }.items():
        with pytest.raises(SourceError, match=f"^{re.escape(str(tmp_path / path))}: {reason}"):
            ingest(contract(), settings, str(tmp_path / path))


def test_a_path_is_shown_in_full(settings: Settings) -> None:
    with pytest.raises(SourceError, match=re.escape(f"{Path.cwd() / 'absent.csv'}: there is no such file")):
        ingest(contract(), settings, "absent.csv")


def test_no_permission(write: Any, settings: Settings) -> None:
    path = Path(write(SMALL, "locked/small.csv"))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        path.parent.chmod(0)
        os.seteuid(65534)
    try:
        with pytest.raises(SourceError, match=r"small\.csv: no permission to read it"):
            ingest(contract(), settings, str(path))
    finally:
        os.seteuid(user)
        path.parent.chmod(0o700)


def test_a_file_uri(write: Any, settings: Settings) -> None:
    path = write(SMALL, "my rows.csv")
    assert fetch(contract(), settings, "file://" + path.replace(" ", "%20")) == Path(path)


def test_the_contracts_own_file_must_have_its_checksum(write: Any, settings: Settings) -> None:
    path = write(SMALL)
    assert fetch(contract(uri=path, sha256=sha256(SMALL)), settings) == Path(path)
    own = contract(uri=path, sha256=sha256(LARGE))
    message = re.escape(f"{path}: expected SHA-256 {sha256(LARGE)}, got {sha256(SMALL)}")
    for source in ("", path):
        with pytest.raises(SourceError, match=message):
            ingest(own, settings, source)
    assert Path(path).read_bytes() == SMALL


def test_a_file_of_ones_own_needs_no_checksum(write: Any, settings: Settings) -> None:
    own = contract(uri="https://127.0.0.1:9/small.csv", sha256=sha256(LARGE))
    got = ingest(own, settings, write(SMALL))
    assert (len(got.frame), got.sha256) == (2, sha256(SMALL))


def test_nothing_to_read(tmp_path: Path) -> None:
    asked = contract(hint="ask the bank for small.csv")
    remedy = (
        r"ask the bank for small\.csv; set OFFERS_DATA_DIR to the directory that holds .*, or use --source simulated$"
    )
    with pytest.raises(SourceError, match=rf"^contract small needs small\.csv: {remedy}"):
        ingest(asked, Settings(home=tmp_path))
    with pytest.raises(
        SourceError, match=rf"needs small\.csv, which {re.escape(str(tmp_path / 'small.csv'))} is not: {remedy}"
    ):
        ingest(asked, Settings(home=tmp_path, data_dir=tmp_path))


@dataclass
class FileServer:
    """One file over http, with the faults that files over http have."""

    content: bytes = LARGE
    etag: str = '"one"'
    date: str = ""
    status: int = 200
    ranges: bool = True
    shifted: int = 0
    at_most: int | None = None
    cut: int | None = None
    stall: int | None = None
    sized: bool = True
    seen: list[dict[str, str]] = field(default_factory=list)
    stalled: Event = field(default_factory=Event)
    go_on: Event = field(default_factory=Event)
    url: str = ""

    @property
    def asked(self) -> list[str]:
        return [headers.get("Range", "all") for headers in self.seen]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(dict(handler.headers.items()))
        body, status, headers = self._ranged(handler.headers.get("Range"), handler.headers.get("If-Range"))
        if self.status != 200:
            body, status = b"Sorry", self.status
        if self.sized:
            headers["Content-Length"] = str(len(body))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: self.cut if self.stall is None else self.stall])
        if self.stall is not None:
            sent = self.stall
            self.stalled.set()
            self.go_on.wait(30)
            handler.wfile.write(body[sent:])

    def _ranged(self, asked: str | None, condition: str | None) -> tuple[bytes, int, dict[str, str]]:
        headers = {name: value for name, value in (("ETag", self.etag), ("Last-Modified", self.date)) if value}
        same = condition in (None, self.etag, self.date)
        if not (asked and self.ranges and same):
            return self.content, 200, headers
        start = int(asked.removeprefix("bytes=").removesuffix("-")) + self.shifted
        if start >= len(self.content):
            return b"", 416, headers
        body = self.content[start:][: self.at_most]
        headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(self.content)}"
        return body, 206, headers


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    file = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                file.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = False
        file.url = f"http://127.0.0.1:{listening.server_port}/small.csv"
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield file
        file.go_on.set()
        listening.shutdown()
        thread.join()


def test_a_download_is_kept_by_its_checksum(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE))
    first, again = ingest(own, settings), ingest(own, settings)
    assert (len(first.frame), first.origin, first.sha256) == (50_000, server.url, sha256(LARGE))
    assert again.sha256 == first.sha256
    assert fetch(own, settings).read_bytes() == LARGE
    assert server.asked == ["all"]


def test_the_data_directory_spares_the_download(server: FileServer, write: Any, tmp_path: Path) -> None:
    path = write(SMALL, "data/small.csv")
    own = contract(uri=server.url, sha256=sha256(SMALL))
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    assert fetch(own, settings) == Path(path)
    assert server.seen == []


def test_a_wrong_file_in_the_data_directory_is_refused_and_stays(
    server: FileServer, write: Any, tmp_path: Path
) -> None:
    path = write(SMALL, "data/small.csv")
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    with pytest.raises(SourceError, match=re.escape(f"{path}: expected SHA-256 {sha256(LARGE)}, got {sha256(SMALL)}")):
        fetch(contract(uri=server.url, sha256=sha256(LARGE)), settings)
    assert server.seen == []
    assert Path(path).read_bytes() == SMALL


def test_an_explicit_source_comes_before_the_data_directory(server: FileServer, write: Any, tmp_path: Path) -> None:
    write(SMALL, "data/small.csv")
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE


def test_the_contracts_own_uri_can_be_asked_for(server: FileServer, write: Any, tmp_path: Path) -> None:
    write(SMALL, "data/small.csv")
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    assert fetch(contract(uri=server.url, sha256=sha256(LARGE)), settings, server.url).read_bytes() == LARGE


def test_a_data_directory_without_the_file_is_no_hindrance(server: FileServer, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "absent")
    assert fetch(contract(uri=server.url), settings).read_bytes() == LARGE


def test_progress_counts_bytes(server: FileServer, settings: Settings) -> None:
    calls: list[tuple[int, int | None]] = []
    fetch(contract(), settings, server.url, lambda done, total: calls.append((done, total)))
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert calls[-1] == (len(LARGE), len(LARGE))


def test_a_download_of_unknown_size(server: FileServer, settings: Settings) -> None:
    server.sized = False
    calls: list[tuple[int, int | None]] = []
    fetch(contract(), settings, server.url, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(LARGE), None)


def test_a_cut_download_goes_on_where_it_stopped(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE), hint="ask the bank")
    server.cut = 100_000
    with pytest.raises(
        SourceError, match=r"the download was cut short \(.*\); run again to go on .*; ask the bank; set OFF"
    ):
        fetch(own, settings)
    server.cut = None
    calls: list[tuple[int, int | None]] = []
    path = fetch(own, settings, progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-"]
    assert server.seen[1]["If-Range"] == '"one"'
    assert calls[0][0] > 100_000
    assert calls[-1] == (len(LARGE), len(LARGE))


@pytest.mark.parametrize(
    ("etag", "date", "condition"),
    [
        ('W/"one"', "Mon, 05 May 2008 08:00:00 GMT", "Mon, 05 May 2008 08:00:00 GMT"),
        ('"one"', "Mon, 05 May 2008 08:00:00 GMT", '"one"'),
        ("", "", None),
    ],
)
def test_what_tells_versions_apart(
    server: FileServer, settings: Settings, etag: str, date: str, condition: str | None
) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE))
    server.etag, server.date, server.cut = etag, date, 100_000
    with pytest.raises(SourceError):
        fetch(own, settings)
    server.cut = None
    fetch(own, settings)
    assert server.asked == ["all", "bytes=100000-"]
    assert server.seen[1].get("If-Range") == condition


def test_without_version_or_checksum_a_cut_download_starts_over(server: FileServer, settings: Settings) -> None:
    server.etag, server.cut = "", 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut = None
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE
    assert server.asked == ["all", "all"]


def test_a_file_that_changed_in_between_starts_over(server: FileServer, settings: Settings) -> None:
    server.cut = 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut, server.etag, server.content = None, '"two"', LARGE.replace(b"clerk", b"baker")
    assert fetch(contract(), settings, server.url).read_bytes() == server.content
    assert server.asked == ["all", "bytes=100000-"]


def test_a_server_without_ranges_starts_over(server: FileServer, settings: Settings) -> None:
    server.cut, server.ranges = 100_000, False
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut = None
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE


def test_a_file_that_shrank_starts_over(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(SMALL))
    server.etag, server.cut = "", 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(own, settings)
    server.cut, server.content = None, SMALL
    assert fetch(own, settings).read_bytes() == SMALL
    assert server.asked == ["all", "bytes=100000-", "all"]


def test_a_server_that_sends_a_range_in_pieces(server: FileServer, settings: Settings) -> None:
    server.cut = 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut, server.at_most = None, 200_000
    with pytest.raises(SourceError, match=f"cut short at 300000 of {len(LARGE)} bytes; run again"):
        fetch(contract(), settings, server.url)
    server.at_most = None
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-", "bytes=300000-"]


def test_a_server_that_sends_another_range(server: FileServer, settings: Settings) -> None:
    server.cut = 100_000
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    server.cut, server.shifted = None, 1
    with pytest.raises(SourceError, match="expected the bytes from 100000 on, the server sent 'bytes 100001-"):
        fetch(contract(), settings, server.url)


def test_an_altered_download_is_refused_and_not_kept(server: FileServer, settings: Settings) -> None:
    server.content = LARGE.replace(b"clerk", b"baker")
    own = contract(uri=server.url, sha256=sha256(LARGE))
    message = (
        f"expected SHA-256 {sha256(LARGE)}, got {sha256(server.content)}, so the file is refused; .*OFFERS_DATA_DIR"
    )
    with pytest.raises(SourceError, match=message):
        fetch(own, settings)
    assert not [name for name, content in files(settings.home).items() if b"baker" in content]
    server.content = LARGE
    assert fetch(own, settings).read_bytes() == LARGE
    assert server.asked == ["all", "all"]


def test_a_kept_file_that_was_damaged_is_fetched_again(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE))
    fetch(own, settings).write_bytes(b"damaged")
    assert fetch(own, settings).read_bytes() == LARGE


def test_a_file_without_checksum_is_fetched_again_only_when_it_changed(server: FileServer, settings: Settings) -> None:
    def sizes() -> list[int]:
        calls: list[int] = []
        path = fetch(contract(), settings, server.url, lambda done, total: calls.append(done))
        assert path.read_bytes() == server.content
        return calls

    assert sizes()
    assert sizes() == []
    server.etag, server.content = '"two"', SMALL
    assert sizes()[-1] == len(SMALL)
    server.etag, server.content = "", LARGE
    assert sizes()[-1] == len(LARGE)
    assert sizes()[-1] == len(LARGE)


def test_a_cut_download_leaves_the_earlier_file(server: FileServer, settings: Settings) -> None:
    path = fetch(contract(), settings, server.url)
    server.etag, server.cut, server.content = '"two"', 100_000, LARGE.replace(b"clerk", b"baker")
    with pytest.raises(SourceError, match="cut short"):
        fetch(contract(), settings, server.url)
    assert path.read_bytes() == LARGE
    server.cut = None
    with path.open("rb") as opened:
        assert fetch(contract(), settings, server.url).read_bytes() == server.content
        assert opened.read() == LARGE


def test_a_killed_process_leaves_the_earlier_file(server: FileServer, settings: Settings) -> None:
    path = fetch(contract(), settings, server.url)
    server.etag, server.stall, server.content = '"two"', 400_000, LARGE.replace(b"clerk", b"baker")
    reader, writer = os.pipe()

    def progress(done: int, total: int | None) -> None:
        if done == 400_000:
            os.write(writer, b"!")

    process = multiprocessing.get_context("fork").Process(
        target=fetch, args=(contract(), settings, server.url, progress)
    )
    process.start()
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read(1) == b"!"
    process.kill()
    process.join()
    assert path.read_bytes() == LARGE
    server.stall = None
    assert fetch(contract(), settings, server.url).read_bytes() == server.content
    resumed = re.fullmatch(r"bytes=(\d+)-", server.asked[-1])
    assert resumed
    assert 300_000 < int(resumed[1]) <= 400_000


def test_two_at_once_download_once(server: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE))
    flock, second = fcntl.flock, Event()

    def observed(file: Any, operation: int) -> None:
        if server.stalled.is_set():
            second.set()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", observed)
    server.stall = 100_000
    contents: list[bytes] = []
    threads = [Thread(target=lambda: contents.append(fetch(own, settings).read_bytes())) for _ in range(2)]
    threads[0].start()
    assert server.stalled.wait(10)
    threads[1].start()
    assert second.wait(10)
    server.go_on.set()
    for thread in threads:
        thread.join()
    assert contents == [LARGE, LARGE]
    assert server.asked == ["all"]


def test_a_stalled_download_is_given_up(
    server: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PATIENCE", 0.2)
    own = contract(uri=server.url, sha256=sha256(LARGE), hint="ask the bank")
    server.stall = 100_000
    remedy = r"ask the bank; set OFFERS_DATA_DIR to the directory that holds small\.csv, or use --source simulated$"
    with pytest.raises(SourceError, match=rf"given up after 0\.2 s without progress; run again .*; {remedy}"):
        fetch(own, settings)
    server.stall = None
    server.go_on.set()
    assert fetch(own, settings).read_bytes() == LARGE
    assert server.asked == ["all", "bytes=100000-"]


@pytest.mark.parametrize(
    ("status", "text"), [(404, "404 Not Found"), (500, "500 Internal Server Error"), (204, "204 ")]
)
def test_what_the_server_answers(server: FileServer, settings: Settings, status: int, text: str) -> None:
    server.status = status
    with pytest.raises(SourceError, match=f"{server.url}: expected a file, the server answered HTTP {text}"):
        fetch(contract(), settings, server.url)
    assert files(settings.home) == {}


def test_a_server_where_nobody_listens(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/small.csv"
        with pytest.raises(
            SourceError, match=rf"^{url}: the server can't be reached \(.*refused\); else save the file"
        ):
            fetch(contract(), settings, url)


@pytest.mark.parametrize("url", ["http://", "http://[::1/small.csv", "http://ba nk/\x00"])
def test_a_url_that_is_none(settings: Settings, url: str) -> None:
    with pytest.raises(SourceError, match=r"can't be downloaded"):
        fetch(contract(), settings, url)


def test_a_password_in_a_url_is_never_shown(server: FileServer, settings: Settings) -> None:
    secret = server.url.replace("//", "//me:p@ss@") + "?signature=p@ss"
    assert ingest(contract(), settings, secret).origin == server.url
    assert server.seen[0]["Authorization"].startswith("Basic ")
    server.status = 403
    with pytest.raises(SourceError, match="403 Forbidden") as raised:
        fetch(contract(), settings, secret)
    assert "p@ss" not in str(raised.value)


def test_a_home_that_is_none(server: FileServer, write: Any) -> None:
    with pytest.raises(StorageError, match=r"rows\.csv/data.*: Not a directory"):
        fetch(contract(), Settings(home=Path(write(SMALL))), server.url)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("written", ["download.part", "unpacked.part"])
def test_a_home_that_is_full(server: FileServer, settings: Settings, written: str) -> None:
    server.content = zipped(**{"small.csv": SMALL})
    zip_file = contract(member="small.csv")
    fetch(zip_file, settings, server.url).unlink()
    folder = next((settings.home / "data").iterdir())
    (folder / written).symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full; make room"):
        fetch(zip_file, settings, server.url)


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


MEMBER = "inner.zip/folder/small.csv"
NESTED = zipped(**{"other.zip": zipped(x=b""), "inner.zip": zipped(**{"readme": b"-", "folder/small.csv": SMALL})})


def test_a_zip_in_a_zip(server: FileServer, settings: Settings) -> None:
    server.content = NESTED
    own = contract(uri=server.url, member=MEMBER, sha256=sha256(SMALL))
    got = ingest(own, settings)
    assert (len(got.frame), got.sha256) == (2, sha256(SMALL))
    assert fetch(own, settings).name == "small.csv"
    assert server.asked == ["all"]
    assert set(files(settings.home)) <= {"small.csv", "version", "download.version"}


def test_an_altered_file_in_a_zip(server: FileServer, settings: Settings) -> None:
    server.content = NESTED
    own = contract(uri=server.url, member=MEMBER, sha256=sha256(LARGE))
    with pytest.raises(SourceError, match=f"expected SHA-256 {sha256(LARGE)}, got {sha256(SMALL)}"):
        ingest(own, settings)
    assert set(files(settings.home)) <= {"download.version"}


def test_a_zip_of_ones_own(write: Any, settings: Settings) -> None:
    path = write(NESTED, "rows.zip")
    own = contract(member=MEMBER, sha256=sha256(LARGE))
    assert ingest(own, settings, path).sha256 == sha256(SMALL)
    assert Path(path).read_bytes() == NESTED


def test_a_path_in_a_zip_is_never_a_path_of_ours(write: Any, settings: Settings, tmp_path: Path) -> None:
    path = write(zipped(**{"../../../evil.csv": SMALL}), "rows.zip")
    got = fetch(contract(member="../../../evil.csv"), settings, path)
    assert got.is_relative_to(settings.home)
    assert got.name == "small.csv"
    assert not list(tmp_path.rglob("evil.csv"))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            "inner.zip/small.csv",
            r"rows\.zip/inner\.zip: expected small\.csv in it; it holds readme, folder/small\.csv$",
        ),
        ("small.csv", r"expected small\.csv in it; it holds other\.zip, inner\.zip$"),
        ("inner.zip/readme/small.csv", r"expected a whole zip file, but it is broken or no zip"),
        (None, r"it is a zip, so source\.member of the contract must name a file in it; it holds other\.zip, inner"),
    ],
)
def test_a_zip_without_the_member(write: Any, settings: Settings, member: str | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        ingest(contract(member=member), settings, write(NESTED, "rows.zip"))


def test_a_broken_zip(write: Any, settings: Settings) -> None:
    whole = zipped(**{"small.csv": LARGE})
    spoilt = bytearray(whole)
    spoilt[200:400] = b"?" * 200
    astray = bytearray(whole)
    start_of_directory = slice(-6, -2)
    astray[start_of_directory] = (int.from_bytes(astray[start_of_directory], "little") + 64).to_bytes(4, "little")
    for content in (whole[:-100], bytes(spoilt), bytes(astray)):
        with pytest.raises(SourceError, match=r"rows\.zip: expected a whole zip file, but it is broken or no zip"):
            ingest(contract(member="small.csv"), settings, write(content, "rows.zip"))
    assert files(settings.home) == {}


def test_a_page_in_place_of_the_zip(server: FileServer, settings: Settings) -> None:
    server.content = b"<!doctype html>"
    own = contract(uri=server.url, member=MEMBER, sha256=sha256(SMALL))
    with pytest.raises(SourceError, match=r"expected a whole zip file, but it is broken or no zip .*OFFERS_DATA_DIR"):
        ingest(own, settings)


def test_a_zip_with_password(write: Any, settings: Settings) -> None:
    locked = zipped(**{"small.csv": SMALL}).replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\1")
    locked = locked.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")
    with pytest.raises(SourceError, match="expected a zip file without password"):
        ingest(contract(member="small.csv"), settings, write(locked, "rows.zip"))


def test_a_zip_that_would_fill_the_disk(write: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_MEMBER", len(LARGE) - 1)
    path = write(zipped(**{"small.csv": LARGE}), "rows.zip")
    with pytest.raises(SourceError, match=f"small.csv in it unpacks to {len(LARGE)} bytes; expected at most"):
        ingest(contract(member="small.csv"), settings, path)
    assert files(settings.home) == {}


@pytest.fixture
def s3() -> Iterator[S3Double]:
    with S3Double("bank") as double:
        double.buckets["bank"]["raw/small.csv"] = LARGE
        yield double


@pytest.fixture
def in_s3(s3: S3Double, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", s3=s3.settings)


def test_an_object_is_fetched_once_per_version(s3: S3Double, in_s3: Settings) -> None:
    uri = "s3://bank/raw/small.csv"
    got = ingest(contract(), in_s3, uri)
    assert (len(got.frame), got.origin, got.sha256) == (50_000, uri, sha256(LARGE))
    calls: list[int] = []
    fetch(contract(), in_s3, uri, lambda done, total: calls.append(done))
    assert calls == []
    s3.buckets["bank"]["raw/small.csv"] = SMALL
    assert fetch(contract(), in_s3, uri).read_bytes() == SMALL


@pytest.mark.parametrize("changed", [LARGE, SMALL, LARGE.replace(b"clerk", b"baker")])
def test_a_cut_object_goes_on_where_it_stopped(s3: S3Double, in_s3: Settings, changed: bytes) -> None:
    uri = "s3://bank/raw/small.csv"
    s3.short = 100_000
    with pytest.raises(SourceError, match=r"small\.csv: the transfer was cut short .*; else save the file"):
        fetch(contract(), in_s3, uri)
    s3.short, s3.buckets["bank"]["raw/small.csv"] = 0, changed
    assert fetch(contract(), in_s3, uri).read_bytes() == changed
    ranges = [request.headers.get("Range", "all") for request in s3.requests if request.key]
    assert ranges[0] == "all"
    start = int(ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert len(LARGE) - 100_000 - (1 << 16) <= start <= len(LARGE) - 100_000
    assert ranges[2:] == ([] if changed == LARGE else ["all"])


def test_the_contracts_own_object(s3: S3Double, in_s3: Settings) -> None:
    uri = "s3://bank/raw/small.csv"
    assert ingest(contract(uri=uri, sha256=sha256(LARGE)), in_s3).sha256 == sha256(LARGE)
    with pytest.raises(SourceError, match=f"expected SHA-256 {sha256(SMALL)}, got {sha256(LARGE)}.*OFFERS_DATA_DIR"):
        ingest(contract(uri=uri, sha256=sha256(SMALL)), in_s3)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://absent/small.csv", "there is no such bucket"),
        ("s3://bank/absent.csv", "there is no such object"),
        ("s3://bank", "expected s3://bucket/key, got no key"),
        ("s3:///small.csv", "expected s3://bucket/key, got no bucket"),
    ],
)
def test_objects_that_are_not_there(in_s3: Settings, uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"{uri}.*: {message}"):
        ingest(contract(), in_s3, uri)


def test_an_object_that_is_not_ours(s3: S3Double, in_s3: Settings) -> None:
    s3.refuse = lambda request: (403, "AccessDenied")
    with pytest.raises(SourceError, match=r"s3://bank/raw/small\.csv: access denied; check AWS_ACCESS_KEY_ID"):
        ingest(contract(), in_s3, "s3://bank/raw/small.csv")


def test_no_object_store(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"OFFERS_S3_ENDPOINT: .* it is not set"):
        ingest(contract(), Settings(home=tmp_path), "s3://bank/small.csv")
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{bound.getsockname()[1]}"
        settings = Settings(home=tmp_path, s3=S3Settings(endpoint=endpoint, secure=False))
        with pytest.raises(SourceError, match=f"no answer from {endpoint}"):
            ingest(contract(), settings, "s3://bank/small.csv")


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
        ("select * from customers", DataError, "not in the contract: phone$"),
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


def test_a_file_that_is_no_database(write: Any, settings: Settings) -> None:
    with pytest.raises(SourceError, match="the database says: file is not a database"):
        ingest(contract(query=QUERY), settings, f"sqlite:///{write(SMALL)}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bank/small.csv", r"expected a file, http\(s\)://, s3:// or a database whose driver is installed"),
        ("postgresql+nothing://me:tiger@h/d", "whose driver is installed"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dtiger", "whose driver is installed"),
        ("postgresql+psycopg://me:tiger@h:port/d", "expected .*://user:password@host:port/database"),
        ("://me:tiger@h", "expected .*://user:password@host:port/database"),
    ],
)
def test_databases_that_cant_be_asked(settings: Settings, url: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as raised:
        ingest(contract(query=QUERY), settings, url)
    assert "tiger" not in str(raised.value)


def test_a_password_in_the_databases_words_is_never_shown() -> None:
    url = sqlalchemy.make_url("postgresql+psycopg://me:tiger@bank/d")
    refused = OperationalError("select 1", {}, Exception("no entry for me:tiger@bank\nDETAIL"))
    with (
        pytest.raises(SourceError, match=r"^d: the database says: no entry for me:\*\*\*@bank$"),
        sources._sql_errors(url, "d"),
    ):
        raise refused


def test_the_simulation_walks_the_path_of_files(tmp_path: Path, settings: Settings) -> None:
    bank = contracts.load("bank-marketing")
    got = ingest(bank, settings, "simulated:7:500")
    path = tmp_path / "rows.csv"
    simulate.write_csv(simulate.World(bank, 7).sample(500).frame, bank, path)
    pd.testing.assert_frame_equal(got.frame, ingest(bank, settings, str(path)).frame)
    assert got.frame.shape == (500, 21)
    assert (got.origin, got.sha256) == ("simulated:7:500", sha256(path.read_bytes()))


def test_seed_and_rows_of_the_simulation(settings: Settings) -> None:
    loans = contracts.load("personal-loan")
    plain, zero, one = (ingest(loans, settings, f"simulated{rest}") for rest in ("", ":0", ":1"))
    assert plain.origin == "simulated:0:5000"
    assert (len(plain.frame), plain.sha256) == (loans.simulation.rows, zero.sha256)
    assert one.sha256 != zero.sha256


def test_a_contract_may_be_of_a_simulated_world(settings: Settings) -> None:
    assert ingest(contract(uri="simulated:3:200"), settings).origin == "simulated:3:200"


@pytest.mark.parametrize("source", ["simulated:", "simulated:x", "simulated:1:0", "simulated:1:2:3", "simulated:-1"])
def test_a_simulation_that_is_none(settings: Settings, source: str) -> None:
    with pytest.raises(
        SourceError, match=f"source '{source}': expected simulated, simulated:SEED or simulated:SEED:ROWS"
    ):
        ingest(contract(), settings, source)


@pytest.mark.parametrize("source", ["simulated", "sqlite:///bank.db"])
def test_only_files_can_be_fetched(settings: Settings, source: str) -> None:
    with pytest.raises(SourceError, match=r"expected a file, http\(s\):// or s3://"):
        fetch(contract(), settings, source)


@pytest.mark.parametrize(
    ("name", "rows", "columns", "positives"), [("bank-marketing", 41188, 21, 4640), ("personal-loan", 5000, 14, 480)]
)
def test_the_real_files(tmp_path: Path, name: str, rows: int, columns: int, positives: int) -> None:
    real = contracts.load(name)
    folder = Settings.from_env().data_dir
    if folder is None or not (folder / real.source.file).is_file():
        pytest.skip(f"OFFERS_DATA_DIR holds no {real.source.file}")
    got = ingest(real, Settings(home=tmp_path, data_dir=folder))
    assert got.frame.shape == (rows, columns)
    assert got.sha256 == real.source.sha256
    assert int((got.frame[real.target.column] == real.target.positive).sum()) == positives
    assert not got.frame.isna().any().any()
