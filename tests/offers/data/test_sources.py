"""Which place a contract's rows come from, and what is kept of them."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pandas as pd
import pytest

from offers.contract import contract as contracts
from offers.data.csv_writer import write_csv
from offers.data.sources import fetch, ingest
from offers.errors import SourceError, StorageError
from offers.settings import Settings
from offers.simulation import world as simulate
from tests.support.http_double import FileServer
from tests.support.services import DEADLINE
from tests.support.small import LARGE, SMALL, contract, files, sha256, write, zipped


def test_paths_that_hold_no_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").touch()
    for path, reason in {
        "absent.csv": "there is no such file",
        "": "expected a file, got a directory; name the file in it",
        "file/in.csv": "a part of this path is a file, not a directory",
    }.items():
        with pytest.raises(SourceError, match=f"^{re.escape(str(tmp_path / path))}: {reason}"):
            ingest(contract(), settings, str(tmp_path / path))


def test_a_path_is_shown_in_full(settings: Settings) -> None:
    with pytest.raises(SourceError, match=re.escape(f"{Path.cwd() / 'absent.csv'}: there is no such file")):
        ingest(contract(), settings, "absent.csv")


def test_no_permission(locked: Path, settings: Settings) -> None:
    with pytest.raises(SourceError, match=r"small\.csv: no permission; check who owns it"):
        ingest(contract(), settings, str(locked / "small.csv"))


def test_a_file_uri(tmp_path: Path, settings: Settings) -> None:
    path = write(tmp_path, SMALL, "my rows.csv")
    assert fetch(contract(), settings, "file://" + path.replace(" ", "%20")) == Path(path)


def test_the_contracts_own_file_must_have_its_checksum(tmp_path: Path, settings: Settings) -> None:
    path = write(tmp_path, SMALL)
    assert fetch(contract(uri=path, sha256=sha256(SMALL)), settings) == Path(path)
    own = contract(uri=path, sha256=sha256(LARGE))
    message = re.escape(f"{path}: expected SHA-256 {sha256(LARGE)}, got {sha256(SMALL)}")
    for source in ("", path):
        with pytest.raises(SourceError, match=message):
            ingest(own, settings, source)
    assert Path(path).read_bytes() == SMALL


def test_a_file_of_ones_own_needs_no_checksum(tmp_path: Path, settings: Settings) -> None:
    own = contract(uri="https://127.0.0.1:9/small.csv", sha256=sha256(LARGE))
    path = write(tmp_path, SMALL)
    got = ingest(own, settings, path)
    assert (len(got.frame), got.origin, got.sha256) == (2, path, sha256(SMALL))


def test_a_file_on_disk_needs_no_library_of_the_other_places(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.support.small import contract\n"
        "from offers.settings import Settings; from offers.data.sources import ingest\n"
        "assert len(ingest(contract(), Settings(home=Path('home')), sys.argv[1]).frame) == 2\n"
        "print({'sqlalchemy', 'httpx', 'minio', 'urllib3', 'scipy'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, write(tmp_path, SMALL)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


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


def test_a_download_is_kept_by_its_checksum(server: FileServer, settings: Settings) -> None:
    own = contract(uri=server.url, sha256=sha256(LARGE))
    first, again = ingest(own, settings), ingest(own, settings)
    assert (len(first.frame), first.origin, first.sha256) == (50_000, server.url, sha256(LARGE))
    assert again.sha256 == first.sha256
    assert fetch(own, settings).read_bytes() == LARGE
    assert server.asked == ["all"]


def test_the_data_directory_spares_the_download(server: FileServer, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL, "data/small.csv")
    own = contract(uri=server.url, sha256=sha256(SMALL))
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    assert fetch(own, settings) == Path(path)
    assert server.seen == []


def test_a_wrong_file_in_the_data_directory_is_refused_and_stays(server: FileServer, tmp_path: Path) -> None:
    path = write(tmp_path, SMALL, "data/small.csv")
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    with pytest.raises(SourceError, match=re.escape(f"{path}: expected SHA-256 {sha256(LARGE)}, got {sha256(SMALL)}")):
        fetch(contract(uri=server.url, sha256=sha256(LARGE)), settings)
    assert server.seen == []
    assert Path(path).read_bytes() == SMALL


def test_an_explicit_source_comes_before_the_data_directory(server: FileServer, tmp_path: Path) -> None:
    write(tmp_path, SMALL, "data/small.csv")
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    assert fetch(contract(), settings, server.url).read_bytes() == LARGE


def test_the_contracts_own_uri_can_be_asked_for(server: FileServer, tmp_path: Path) -> None:
    write(tmp_path, SMALL, "data/small.csv")
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "data")
    assert fetch(contract(uri=server.url, sha256=sha256(LARGE)), settings, server.url).read_bytes() == LARGE


def test_a_data_directory_without_the_file_is_no_hindrance(server: FileServer, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", data_dir=tmp_path / "absent")
    assert fetch(contract(uri=server.url), settings).read_bytes() == LARGE


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
    assert server.stalled.wait(DEADLINE)
    threads[1].start()
    assert second.wait(DEADLINE)
    server.go_on.set()
    for thread in threads:
        thread.join()
    assert contents == [LARGE, LARGE]
    assert server.asked == ["all"]


def test_a_secret_of_a_url_is_never_shown(
    server: FileServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASS", "p@ss")
    secret = server.url.replace("//", "//me:${PASS}@") + "?signature=${PASS}"
    assert ingest(contract(), settings, secret).origin == server.url
    assert server.seen[0]["Authorization"].startswith("Basic ")
    server.status = 403
    with pytest.raises(SourceError, match="403 Forbidden") as raised:
        fetch(contract(), settings, secret)
    assert "p@ss" not in str(raised.value)


def test_a_home_that_is_none(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"rows\.csv/data.*: a part of this path is a file, not a directory"):
        fetch(contract(), Settings(home=Path(write(tmp_path, SMALL))), server.url)


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


def test_the_simulation_walks_the_path_of_files(tmp_path: Path, settings: Settings) -> None:
    bank = contracts.load("bank-marketing")
    got = ingest(bank, settings, "simulated:7:500")
    path = tmp_path / "rows.csv"
    write_csv(simulate.World(bank, 7).sample(500).frame, bank, path)
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
