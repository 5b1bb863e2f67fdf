"""The rows of a contract, from any source: a file, http(s), S3, a SQL query, or the simulated world.

The libraries for SQL, http, S3 and the simulation are slow to import, so each is imported where it is needed.
"""

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from offers.contract import secret
from offers.contract.contract import Contract
from offers.data import table_file
from offers.data.archive import is_zip, unpack
from offers.data.download import ByteProgress, RemoteFile, download
from offers.data.formats import is_workbook
from offers.errors import SourceError
from offers.files import os_errors, path_of, sha256_of, sync
from offers.settings import Settings


@dataclass(frozen=True)
class Ingested:
    """Rows as they arrived, in the contract's order of columns.

    Cells of a CSV file are text (dtype string[pyarrow]; null where empty and unquoted). Cells of a Parquet file or a
    query keep their own types. `origin` names the source without secrets; `sha256` is that of the file with the rows.
    """

    frame: pd.DataFrame
    origin: str
    sha256: str | None


@dataclass(frozen=True)
class _Place:
    """The location of the rows, and their checksum, which only the contract's own file has."""

    uri: str
    own: bool = False
    zipped: bool = False
    sha256: str | None = None

    @property
    def kind(self) -> str:
        # Where the whole URI is a secret, only the secret itself tells its kind.
        uri = secret.opened(self.uri).uri if self.uri.startswith("${") else self.uri
        scheme, rest, _ = uri.partition("://")
        if uri.partition(":")[0] == "simulated":
            return "simulated"
        if not rest or scheme == "file":
            return "file"
        return {"http": "http", "https": "http", "s3": "s3"}.get(scheme, "sql")

    @property
    def shown(self) -> str:
        """The URI without parts that may be secret: user, password and query of a URL."""
        if self.kind == "http":
            return re.sub(r"//[^/]*@", "//", self.uri).partition("?")[0]
        return self.uri.partition("?")[0] if self.kind == "sql" else self.uri


def ingest(contract: Contract, settings: Settings, source: str = "", progress: ByteProgress | None = None) -> Ingested:
    """Get the rows of `contract`.

    Parameters
    ----------
    source : file, http(s)://, s3:// or SQLAlchemy URL, or simulated[:SEED[:ROWS]]; empty for the contract's own,
        whose checksum must match. For a SQLAlchemy URL, `contract.source.query` is the query.
    progress : called with (bytes done, bytes in total or None) while a file is downloaded

    Raises
    ------
    SourceError
        the rows can't be fetched, or checksum, encoding or separator are not the declared ones
    DataError
        columns are missing, unknown or occur twice; a row has too many or too few cells; there are no rows
    StorageError
        a download can't be written
    """
    place = _locate(contract, settings, source)
    if place.kind == "simulated":
        return _simulate(contract, place.uri)
    if place.kind == "sql":
        from offers.data import sql

        address = secret.opened(place.uri)
        with address.errors():
            frame = sql.query(contract, address.uri)
        return Ingested(frame, place.shown, sha256=None)
    path, sha256 = _fetch(contract, settings, place, progress)
    return Ingested(table_file.read(path, contract, place.shown), place.shown, sha256)


def fetch(contract: Contract, settings: Settings, source: str = "", progress: ByteProgress | None = None) -> Path:
    """Get the file with the rows of `contract` and verify it; it is downloaded if necessary, unpacked and kept.

    The first of these counts: an explicit `source`, the file in `settings.data_dir`, the contract's own URI.
    Errors are those of `ingest`.
    """
    place = _locate(contract, settings, source)
    if place.kind in ("simulated", "sql"):
        raise SourceError(f"source {place.kind}: expected a file, http(s):// or s3://, of which a copy can be kept")
    return _fetch(contract, settings, place, progress)[0]


def _locate(contract: Contract, settings: Settings, source: str) -> _Place:
    own = contract.source
    secret.refuse_literal(source, "the source")
    if source and source != own.uri:
        return _Place(source)
    local = settings.data_dir / own.file if settings.data_dir else None
    if not source and local and os.path.lexists(local):
        return _Place(str(local), own=True, sha256=own.sha256)
    if own.uri:
        return _Place(own.uri, own=True, zipped=own.member is not None, sha256=own.sha256)
    absent = f", which {local} is not" if local else ""
    raise SourceError(f"contract {contract.name} needs {own.file}{absent}: {_remedy(contract)}")


def _remedy(contract: Contract) -> str:
    own = contract.source
    hint = f"{own.hint}; " if own.hint else ""
    return f"{hint}set OFFERS_DATA_DIR to the directory that holds {own.file}, or use --source simulated"


def _fetch(contract: Contract, settings: Settings, place: _Place, progress: ByteProgress | None) -> tuple[Path, str]:
    """Get the verified file and its SHA-256."""
    if place.kind == "file":
        return _local(contract, settings, place)
    try:
        return _remote(contract, settings, place, progress)
    except SourceError as error:
        remedy = _remedy(contract) if place.own else "else save the file yourself and give its path as the source"
        raise SourceError(f"{error}; {remedy}", error.passes) from None


def _local(contract: Contract, settings: Settings, place: _Place) -> tuple[Path, str]:
    path = path_of(secret.opened(place.uri).uri).absolute()
    with os_errors(path, SourceError):
        sha256, zipped = sha256_of(path), place.zipped or _is_archive(path)
    if zipped:
        with _folder(settings, f"{path}\n{contract.source.member}") as folder:
            return _settle(path, folder, contract, place)
    _verify(sha256, place)
    return path, sha256


def _remote(contract: Contract, settings: Settings, place: _Place, progress: ByteProgress | None) -> tuple[Path, str]:
    with _folder(settings, place.sha256 or f"{place.uri}\n{contract.source.member}") as folder:
        final, part, note = folder / Path(contract.source.file).name, folder / "download.part", folder / "version"
        if place.sha256 and final.is_file() and sha256_of(final) == place.sha256:
            return final, place.sha256
        own_version = note.read_text() if note.is_file() and final.is_file() and not place.sha256 else ""
        address = secret.opened(place.uri)
        with address.errors():
            version = download(
                _remote_file(place, address.uri, settings), part, own_version, bool(place.sha256), progress
            )
        if version is None:
            return final, sha256_of(final)
        try:
            settled = _settle(part, folder, contract, place)
        finally:
            part.unlink(missing_ok=True)
        # The note is written after the file: a crash between the two costs a download, but never makes a stale file
        # look current.
        note.write_text(version)
        return settled


def _remote_file(place: _Place, uri: str, settings: Settings) -> RemoteFile:
    if place.kind == "http":
        from offers.data.http_file import HttpFile

        return HttpFile(uri, place.shown)
    from offers.data.s3_file import S3File

    return S3File(uri, settings.s3)


@contextmanager
def _folder(settings: Settings, name: str) -> Iterator[Path]:
    """Lock a folder of our own for the source `name`, so that one process at a time works in it."""
    folder = settings.home / "data" / hashlib.sha256(name.encode()).hexdigest()[:16]
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _settle(arrived: Path, folder: Path, contract: Contract, place: _Place) -> tuple[Path, str]:
    """Unpack the file that arrived if it is an archive, verify it, and only then move it into place."""
    final, unpacked = folder / Path(contract.source.file).name, folder / "unpacked.part"
    try:
        inner = arrived
        if place.zipped or _is_archive(arrived):
            inner = unpacked
            unpack(arrived, unpacked, contract.source.member, place.shown)
        sha256 = sha256_of(inner)
        _verify(sha256, place)
        sync(inner)
        os.replace(inner, final)
    finally:
        unpacked.unlink(missing_ok=True)
    return final, sha256


def _is_archive(path: Path) -> bool:
    """Whether a file must be unpacked. An Excel workbook is a zip too, but is read as it is."""
    return is_zip(path) and not is_workbook(path)


def _verify(sha256: str, place: _Place) -> None:
    if place.sha256 and sha256 != place.sha256:
        raise SourceError(
            f"{place.shown}: expected SHA-256 {place.sha256}, got {sha256}, so the file is refused; "
            "if it is a newer one of your own, name it as the source"
        )


def _simulate(contract: Contract, source: str) -> Ingested:
    from offers.data.csv_writer import write_csv
    from offers.simulation.world import World

    match = re.fullmatch(r"simulated(?::(\d+)(?::([1-9]\d*))?)?", source)
    if not match:
        raise SourceError(
            f"source {source!r}: expected simulated, simulated:SEED or simulated:SEED:ROWS, with whole numbers"
        )
    seed, rows = int(match[1] or 0), int(match[2] or contract.simulation.rows)
    origin = f"simulated:{seed}:{rows}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.csv"
        write_csv(World(contract, seed).sample(rows).frame, contract, path)
        return Ingested(table_file.read(path, contract, origin), origin, sha256_of(path))
