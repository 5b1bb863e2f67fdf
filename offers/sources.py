"""The rows of a contract, from wherever they are: a file, http(s), S3, a SQL query, or the simulated world."""

import codecs
import csv
import difflib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import sqlalchemy
from minio.error import S3Error
from pandas.errors import DatabaseError
from pyarrow import parquet
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from offers.contract import Contract, CsvFormat
from offers.errors import DataError, OffersError, SourceError
from offers.settings import S3Settings, Settings
from offers.store import CHUNK, os_errors, path_of, s3_client, s3_errors, s3_object, sha256_of, split_s3, sync

PATIENCE = 20.0
LARGEST_MEMBER = 4 << 30
SEPARATORS = ";,\t|"
ZIP, PARQUET = b"PK\x03\x04", b"PAR1"

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Ingested:
    """Rows as they arrived, in the contract's order of columns.

    Cells of a CSV file are text (dtype string[pyarrow]; null where empty and unquoted); a Parquet file's and a
    query's keep their own types. `origin` is safe to show; `sha256` is of the file that held the rows.
    """

    frame: pd.DataFrame
    origin: str
    sha256: str | None


@dataclass(frozen=True)
class _Place:
    """Where the rows are, and what is known of them: only the contract's own file has a checksum."""

    uri: str
    own: bool = False
    zipped: bool = False
    sha256: str | None = None

    @property
    def kind(self) -> str:
        scheme, found, _ = self.uri.partition("://")
        if self.uri.partition(":")[0] == "simulated":
            return "simulated"
        if not found or scheme == "file":
            return "file"
        return {"http": "http", "https": "http", "s3": "s3"}.get(scheme, "sql")

    @property
    def shown(self) -> str:
        """The URI without what may be secret: user, password and query of a URL."""
        if self.kind == "http":
            return re.sub(r"//[^/]*@", "//", self.uri).partition("?")[0]
        return self.uri


def ingest(contract: Contract, settings: Settings, source: str = "", progress: Progress | None = None) -> Ingested:
    """Get the rows of `contract`.

    Parameters
    ----------
    source : file, http(s)://, s3:// or SQLAlchemy URL, or simulated[:SEED[:ROWS]]; empty for the contract's own,
        whose checksum must hold. `contract.source.query` is what a SQLAlchemy URL is asked.
    progress : called with (bytes done, bytes in total or None) while a file is downloaded

    Raises
    ------
    SourceError
        the rows can't be had, or checksum, encoding or separator are not the declared ones
    DataError
        columns are missing, unknown or there twice; a row has too many or too few cells; there are no rows
    StorageError
        a download can't be written
    """
    place = _locate(contract, settings, source)
    if place.kind == "simulated":
        return _simulate(contract, place)
    if place.kind == "sql":
        return _query(contract, place)
    path, sha256 = _fetch(contract, settings, place, progress)
    return Ingested(_read(path, contract, place.shown), place.shown, sha256)


def fetch(contract: Contract, settings: Settings, source: str = "", progress: Progress | None = None) -> Path:
    """Get the file with the rows of `contract` and verify it; it is downloaded where need be, unpacked and kept.

    An explicit `source` wins; then the file in `settings.data_dir`, if it is there; then the contract's own URI.
    Errors are those of `ingest`.
    """
    place = _locate(contract, settings, source)
    if place.kind in ("simulated", "sql"):
        raise SourceError(f"source {place.kind}: expected a file, http(s):// or s3://, of which a copy can be kept")
    return _fetch(contract, settings, place, progress)[0]


def _locate(contract: Contract, settings: Settings, source: str) -> _Place:
    own = contract.source
    if source and source != own.uri:
        return _Place(source)
    held = settings.data_dir / own.file if settings.data_dir else None
    if not source and held and os.path.lexists(held):
        return _Place(str(held), own=True, sha256=own.sha256)
    if own.uri:
        return _Place(own.uri, own=True, zipped=own.member is not None, sha256=own.sha256)
    absent = f", which {held} is not" if held else ""
    raise SourceError(f"contract {contract.name} needs {own.file}{absent}: {_remedy(contract)}")


def _remedy(contract: Contract) -> str:
    own = contract.source
    hint = f"{own.hint}; " if own.hint else ""
    return f"{hint}set OFFERS_DATA_DIR to the directory that holds {own.file}, or use --source simulated"


def _fetch(contract: Contract, settings: Settings, place: _Place, progress: Progress | None) -> tuple[Path, str]:
    """The verified file and its SHA-256."""
    if place.kind == "file":
        return _local(contract, settings, place)
    try:
        return _remote(contract, settings, place, progress)
    except SourceError as error:
        remedy = _remedy(contract) if place.own else "else save the file yourself and give its path as the source"
        raise SourceError(f"{error}; {remedy}") from None


def _local(contract: Contract, settings: Settings, place: _Place) -> tuple[Path, str]:
    path = path_of(place.uri)
    with _file_errors(path):
        sha256, zipped = sha256_of(path), place.zipped or _starts_with(path, ZIP)
    if zipped:
        with _folder(settings, f"{path.absolute()}\n{contract.source.member}") as folder:
            return _settle(path, folder, contract, place)
    _verify(sha256, place)
    return path, sha256


def _remote(contract: Contract, settings: Settings, place: _Place, progress: Progress | None) -> tuple[Path, str]:
    with _folder(settings, place.sha256 or f"{place.uri}\n{contract.source.member}") as folder:
        final, note = folder / Path(contract.source.file).name, folder / "version"
        if place.sha256 and final.is_file() and sha256_of(final) == place.sha256:
            return final, place.sha256
        part, kept = folder / "download.part", _text(note) if final.is_file() and not place.sha256 else ""
        version = _download(_remote_file(place, settings.s3), part, bool(place.sha256), kept, progress)
        if version is None:
            return final, sha256_of(final)
        try:
            settled = _settle(part, folder, contract, place)
        finally:
            part.unlink(missing_ok=True)
        # After the file: a crash between the two costs a download, never a stale file that passes for new.
        note.write_text(version)
        return settled


@contextmanager
def _folder(settings: Settings, name: str) -> Iterator[Path]:
    """A folder of ours for what `name` names; one process at a time works in it."""
    folder = settings.home / "data" / hashlib.sha256(name.encode()).hexdigest()[:16]
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _settle(arrived: Path, folder: Path, contract: Contract, place: _Place) -> tuple[Path, str]:
    """Unpack what arrived if it is a zip, verify it, and only then move it into place."""
    final, unpacked = folder / Path(contract.source.file).name, folder / "unpacked.part"
    try:
        inner = arrived
        if place.zipped or _starts_with(arrived, ZIP):
            inner = unpacked
            _unpack(arrived, unpacked, contract.source.member, place.shown)
        sha256 = sha256_of(inner)
        _verify(sha256, place)
        sync(inner)
        os.replace(inner, final)
    finally:
        unpacked.unlink(missing_ok=True)
    return final, sha256


def _verify(sha256: str, place: _Place) -> None:
    if place.sha256 and sha256 != place.sha256:
        raise SourceError(
            f"{place.shown}: expected SHA-256 {place.sha256}, got {sha256}, so the file is refused; "
            "if it is a newer one of your own, name it as the source"
        )


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SourceError(f"{path.absolute()}: there is no such file") from None
    except IsADirectoryError:
        raise SourceError(f"{path}: expected a file, got a directory; name the file in it") from None
    except PermissionError:
        raise SourceError(f"{path}: no permission to read it") from None
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror or error}") from None


def _unpack(archive: Path, target: Path, member: str | None, where: str) -> None:
    try:
        with archive.open("rb") as packed, target.open("wb") as unpacked:
            _copy_member(packed, member or "", unpacked, where)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        # EINVAL: a damaged zip sends the reader to before its start. Other OSErrors are the disk's.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise SourceError(f"{where}: expected a whole zip file, but it is broken or no zip ({error})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{where}: expected a zip file without password ({error})") from None


def _copy_member(packed: BinaryIO, member: str, target: BinaryIO, where: str) -> None:
    with zipfile.ZipFile(packed) as archive:
        name = _member(archive.namelist(), member, where)
        if (size := archive.getinfo(name).file_size) > LARGEST_MEMBER:
            raise SourceError(f"{where}: {name} in it unpacks to {size} bytes; expected at most {LARGEST_MEMBER}")
        with archive.open(name) as content:
            if name == member:
                shutil.copyfileobj(content, target)
                return
            with tempfile.TemporaryFile(dir=Path(target.name).parent) as nested:
                shutil.copyfileobj(content, nested)
                _copy_member(nested, member.removeprefix(f"{name}/"), target, f"{where}/{name}")


def _member(names: Sequence[str], member: str, where: str) -> str:
    files = [name for name in names if not name.endswith("/")]
    for name in files:
        if member == name or member.startswith(f"{name}/"):
            return name
    wanted = (
        f"expected {member} in it" if member else "it is a zip, so source.member of the contract must name a file in it"
    )
    raise SourceError(f"{where}: {wanted}; it holds {_some(files)}")


@dataclass(frozen=True)
class _Reply:
    """An opened remote file: bytes from `offset` on, size of the whole where known, what tells versions apart."""

    chunks: Iterator[bytes]
    offset: int
    total: int | None
    version: str


class _RemoteFile(Protocol):
    @property
    def shown(self) -> str: ...

    def open(self, offset: int, version: str) -> AbstractContextManager[_Reply]:
        """Open from `offset` on where the file still is that version, else from the start."""
        ...


def _remote_file(place: _Place, s3: S3Settings) -> _RemoteFile:
    if place.kind == "http":
        return _HttpFile(place.uri, place.shown, PATIENCE)
    return _S3File(place.uri, s3)


def _download(remote: _RemoteFile, part: Path, checked: bool, kept: str, progress: Progress | None) -> str | None:
    """Download to `part`, from where an earlier try stopped; its version, or None where that is `kept` still.

    Without a version to compare, only a checksum (`checked`) makes it safe to go on.
    """
    note = part.with_suffix(".version")
    version = _text(note)
    offset = part.stat().st_size if part.is_file() and (version or checked) else 0
    with remote.open(offset, version) as reply:
        if kept and reply.version == kept:
            return None
        with part.open("ab" if reply.offset else "wb") as file:
            note.write_text(reply.version)
            done = _save(reply, file, progress)
    if reply.total is not None and done != reply.total:
        raise SourceError(f"{remote.shown}: cut short at {done} of {reply.total} bytes; run again to go on from there")
    return reply.version


def _save(reply: _Reply, file: BinaryIO, progress: Progress | None) -> int:
    done = reply.offset
    for chunk in reply.chunks:
        done += file.write(chunk)
        if progress:
            progress(done, reply.total)
    return done


def _text(note: Path) -> str:
    return note.read_text() if note.is_file() else ""


@dataclass(frozen=True)
class _HttpFile:
    url: str
    shown: str
    patience: float

    @contextmanager
    def open(self, offset: int, version: str) -> Iterator[_Reply]:
        with self._errors(), httpx.Client(timeout=self.patience, follow_redirects=True) as client:
            response = self._get(client, offset, version)
            if offset and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                response.close()
                response = self._get(client, 0, "")
            with closing(response):
                yield self._reply(response, offset)

    def _get(self, client: httpx.Client, offset: int, version: str) -> httpx.Response:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": version} if version else {})
        return client.send(client.build_request("GET", self.url, headers=headers), stream=True)

    def _reply(self, response: httpx.Response, offset: int) -> _Reply:
        total = response.headers.get("Content-Length", "")
        if offset and response.status_code == httpx.codes.PARTIAL_CONTENT:
            start, _, total = response.headers.get("Content-Range", "").partition("/")
            if not start.startswith(f"bytes {offset}-"):
                raise SourceError(f"{self.shown}: expected the bytes from {offset} on, the server sent {start!r}")
        elif response.status_code == httpx.codes.OK:
            offset = 0
        else:
            status = f"{response.status_code} {response.reason_phrase}"
            raise SourceError(f"{self.shown}: expected a file, the server answered HTTP {status}")
        known = int(total) if total.isdecimal() else None
        return _Reply(response.iter_raw(), offset, known, _version(response.headers))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            reason = f"given up after {self.patience:g} s without progress; run again to go on from there"
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            reason = f"the download was cut short ({error}); run again to go on from there"
        except httpx.ConnectError as error:
            reason = f"the server can't be reached ({error})"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"can't be downloaded ({error})"
        else:
            return
        raise SourceError(f"{self.shown}: {reason}")


def _version(headers: httpx.Headers) -> str:
    """The strong ETag, or else the date: a weak ETag does not promise the same bytes."""
    etag: str = headers.get("ETag", "")
    date: str = headers.get("Last-Modified", "")
    return etag if etag and not etag.startswith("W/") else date


@dataclass(frozen=True)
class _S3File:
    shown: str
    s3: S3Settings

    @contextmanager
    def open(self, offset: int, version: str) -> Iterator[_Reply]:
        bucket, key = split_s3(self.shown, SourceError)
        if not key:
            raise SourceError(f"{self.shown!r}: expected s3://bucket/key, got no key")
        client = s3_client(self.s3, SourceError)
        with s3_errors(self.shown, SourceError), ExitStack() as stack:
            try:
                response = stack.enter_context(s3_object(client, bucket, key, offset, version if offset else ""))
            except S3Error as error:
                if not offset or error.code not in ("PreconditionFailed", "InvalidRange"):
                    raise
                offset = 0
                response = stack.enter_context(s3_object(client, bucket, key))
            offset = offset if response.status == httpx.codes.PARTIAL_CONTENT else 0
            length = response.headers.get("Content-Length")
            total = offset + int(length) if length else None
            yield _Reply(response.stream(CHUNK), offset, total, response.headers.get("ETag", ""))


def _read(path: Path, contract: Contract, origin: str) -> pd.DataFrame:
    with _file_errors(path):
        if not path.stat().st_size:
            raise SourceError(f"{origin}: expected rows, but the file is empty")
        read = _read_parquet if _starts_with(path, PARQUET) else _read_csv
        return _not_empty(read(path, contract, origin), origin)


def _not_empty(frame: pd.DataFrame, origin: str) -> pd.DataFrame:
    if frame.empty:
        raise DataError(f"{origin}: expected rows, got column names only")
    return frame


def _read_parquet(path: Path, contract: Contract, origin: str) -> pd.DataFrame:
    try:
        with parquet.ParquetFile(path) as file:
            # pandas saves an index without name as a column of this name.
            saved = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]
            names = _ordered(saved, contract, origin)
            frame: pd.DataFrame = file.read(columns=names).to_pandas(ignore_metadata=True)
            return frame[names]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{origin}: expected a Parquet file, but it can't be read ({_line(error)})") from None


def _read_csv(path: Path, contract: Contract, origin: str) -> pd.DataFrame:
    form = contract.source.format
    try:
        header = _header(path, form)
        _check_separator(header, contract, origin)
        frame = _table(path, form, _ordered(header, contract, origin))
    except (UnicodeError, csv.Error, pa.ArrowInvalid) as error:
        raise _malformed(path, form, origin, error) from None
    if len(frame) and _left_open(frame[header[-1]].iloc[-1], path, form):
        raise DataError(f"{origin}: the {form.quote} that opens the last cell is never closed; complete the file")
    return frame


def _header(path: Path, form: CsvFormat) -> list[str]:
    with path.open(encoding=_encoding(form), newline="") as file:
        rows = csv.reader(file, delimiter=form.separator, quotechar=form.quote)
        return next((row for row in rows if row), [""])


def _encoding(form: CsvFormat) -> str:
    try:
        "".encode(form.encoding)
    except LookupError as error:
        raise SourceError(f"contract key source.format.encoding: expected utf-8, latin-1 or such; {error}") from None
    return "utf-8-sig" if codecs.lookup(form.encoding).name == "utf-8" else form.encoding


def _check_separator(header: Sequence[str], contract: Contract, origin: str) -> None:
    if len(header) > 1 or len(contract.columns) == 1:
        return
    likely = max(SEPARATORS, key=header[0].count)
    found = f"it seems to be {likely!r}" if likely in header[0] else f"the first line is {header[0][:60]!r}"
    raise SourceError(
        f"{origin}: expected columns separated by {contract.source.format.separator!r} "
        f"(contract key source.format.separator), but the header came as one column; {found}"
    )


def _table(path: Path, form: CsvFormat, names: list[str]) -> pd.DataFrame:
    table = arrow_csv.read_csv(
        path,
        read_options=arrow_csv.ReadOptions(encoding=form.encoding),
        parse_options=_parse_options(form),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    return frame


def _parse_options(form: CsvFormat, **more: Any) -> Any:
    return arrow_csv.ParseOptions(delimiter=form.separator, quote_char=form.quote, newlines_in_values=True, **more)


def _malformed(path: Path, form: CsvFormat, origin: str, error: Exception) -> OffersError:
    """Say what is wrong with a file that can't be read as CSV; reads it again to find the place."""
    line = _undecodable(path, form.encoding)
    if line or isinstance(error, UnicodeError):
        place = f"line {line}" if line else "the file"
        return SourceError(
            f"{origin}: expected {form.encoding} (contract key source.format.encoding), but {place} is not"
        )
    if row := _ragged(path, form):
        return DataError(
            f"{origin}: expected {row.expected_columns} cells in each row, got {row.actual_columns} in row "
            f"{row.number} (the header is row 1, empty lines do not count): {row.text[:80]!r}"
        )
    return DataError(f"{origin}: expected CSV, but it can't be read ({_line(error)}); is a {form.quote} never closed?")


def _undecodable(path: Path, encoding: str) -> int | None:
    content = path.read_bytes()
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return None


def _ragged(path: Path, form: CsvFormat) -> arrow_csv.InvalidRow | None:
    rows: list[arrow_csv.InvalidRow] = []

    def stop(row: arrow_csv.InvalidRow) -> str:
        rows.append(row)
        return "error"

    # Only a single thread counts the rows.
    with suppress(pa.ArrowInvalid):
        arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(encoding=form.encoding, use_threads=False),
            parse_options=_parse_options(form, invalid_row_handler=stop),
        )
    return rows[0] if rows else None


def _left_open(last: object, path: Path, form: CsvFormat) -> bool:
    """Whether the last cell of the last row runs to the end of the file because its quote is never closed."""
    if not isinstance(last, str) or "\n" not in last:
        return False
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1024), os.SEEK_END)
        return not file.read().rstrip(b"\r\n\0").endswith(form.quote.encode())


def _ordered(names: Sequence[str], contract: Contract, origin: str) -> list[str]:
    """The contract's columns in its order, if `names` are exactly those."""
    expected = [column.name for column in contract.columns]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    problems = {"there twice": twice, "missing": _with_likely(missing, extra), "not in the contract": extra}
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_some(who)}" for what, who in problems.items() if who)
        raise DataError(f"{origin}: expected the {len(expected)} columns of contract {contract.name}; {listed}")
    return expected


def _with_likely(missing: Sequence[str], extra: Sequence[str]) -> list[str]:
    lowered = {name.strip().casefold(): name for name in extra}
    likely = {name: difflib.get_close_matches(name.casefold(), lowered, n=1) for name in missing}
    return [f"{name} (is it {lowered[found[0]]!r}?)" if found else name for name, found in likely.items()]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _query(contract: Contract, place: _Place) -> Ingested:
    url = _sql_url(place)
    # The query of the URL may hold a whole connection string, password and all.
    origin = url.set(query={}).render_as_string(hide_password=True)
    if not contract.source.query:
        raise SourceError(f"{origin}: expected the SQL text in contract key source.query, which is missing")
    with _sql_errors(url, origin):
        engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        # Without parameters a % in the query is a %, whatever the driver.
        with engine.connect().execution_options(no_parameters=True) as connection:
            frame = pd.read_sql_query(contract.source.query, connection)
    names = _ordered([str(name) for name in frame.columns], contract, origin)
    return Ingested(_not_empty(frame[names], origin), origin, None)


def _sql_url(place: _Place) -> sqlalchemy.URL:
    try:
        url = sqlalchemy.make_url(place.uri)
    except (SQLAlchemyError, ValueError):
        scheme = place.uri.partition("://")[0]
        raise SourceError(f"source {scheme}://...: expected {scheme}://user:password@host:port/database") from None
    if url.drivername.startswith("sqlite") and not _is_there(url.database or ""):
        raise SourceError(f"{Path(url.database or '').absolute()}: there is no such database file")
    return url


def _is_there(database: str) -> bool:
    # SQLite makes an absent file, unless a file: URI forbids it.
    return database.startswith("file:") or Path(database).is_file()


@contextmanager
def _sql_errors(url: sqlalchemy.URL, origin: str) -> Iterator[None]:
    try:
        yield
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        reason = f"expected a file, http(s)://, s3:// or a database whose driver is installed ({error})"
    except DBAPIError as error:
        reason = f"the database says: {error.orig}"
    except (SQLAlchemyError, DatabaseError, OSError, ValueError) as error:
        reason = f"the query can't be read: {error}"
    else:
        return
    first_line = reason.partition("\n")[0]
    raise SourceError(f"{origin}: {first_line.replace(str(url.password), '***') if url.password else first_line}")


def _simulate(contract: Contract, place: _Place) -> Ingested:
    from offers.simulate import World, write_csv

    seed, rows = _seed_and_rows(contract, place)
    origin = f"simulated:{seed}:{rows}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.csv"
        write_csv(World(contract, seed).sample(rows).frame, contract, path)
        return Ingested(_read(path, contract, origin), origin, sha256_of(path))


def _seed_and_rows(contract: Contract, place: _Place) -> tuple[int, int]:
    found = re.fullmatch(r"simulated(?::(\d+)(?::([1-9]\d*))?)?", place.uri)
    if not found:
        raise SourceError(
            f"source {place.uri!r}: expected simulated, simulated:SEED or simulated:SEED:ROWS, with whole numbers"
        )
    return int(found[1] or 0), int(found[2] or contract.simulation.rows)
