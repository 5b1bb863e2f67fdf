"""Fixtures of all rooms: a small made-up contract with rows to match, and the real data where it is there."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings as hypothesis_settings

from offers.bundle.provenance import git_commit
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.validation import validate
from offers.settings import Settings
from tests.support.http_double import FileServer
from tests.support.runs import ShiftedRun, ShopRun, train_shop, update_shifted
from tests.support.s3_double import S3Double
from tests.support.shop import SHOP

# Loading MLflow takes a command seconds; the tests of the mirror ask for it.
os.environ["OFFERS_MLFLOW"] = "off"
hypothesis_settings.register_profile("offers", deadline=None, derandomize=True, database=None)
hypothesis_settings.load_profile("offers")


@pytest.fixture(scope="session")
def shop_yaml() -> str:
    return SHOP


@pytest.fixture(scope="session")
def shop_contract() -> Contract:
    return contracts.parse(SHOP)


@pytest.fixture(scope="session")
def shop_rows() -> Callable[..., pd.DataFrame]:
    """Make raw rows that keep to the shop's contract: spending and channel drive the outcome."""

    def rows(n_rows: int, seed: int = 0) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        spending = np.round(generator.uniform(0, 2000, n_rows), 2)
        channel = generator.choice(["mail", "phone", "web"], n_rows)
        bought = generator.random(n_rows) < 1 / (1 + np.exp(1 - spending / 1000 - (channel == "web")))
        columns = {
            "order": [f"{n:06}" for n in range(n_rows)],
            "asked on": pd.date_range("2023-01-01", "2024-12-31", n_rows).strftime("%Y-%m-%d"),
            "spending": [f"{value:.2f}".replace(".", ",") for value in spending],
            "visits": generator.integers(0, 20, n_rows).astype(str),
            "channel": channel,
            "region": generator.choice(["north", "south"], n_rows),
            "member": generator.choice(["0", "1"], n_rows),
            "rating": np.where(generator.random(n_rows) < 0.1, None, "3,5"),
            "minutes": generator.integers(1, 30, n_rows).astype(str),
            "bought": np.where(bought, "ja", "nein"),
        }
        return pd.DataFrame(columns, dtype="string[pyarrow]")

    return rows


@pytest.fixture(scope="session")
def data_dir() -> Path:
    if not os.environ.get("OFFERS_DATA_DIR"):
        pytest.skip("OFFERS_DATA_DIR names no directory with the real data")
    return Path(os.environ["OFFERS_DATA_DIR"])


@pytest.fixture(scope="session")
def uci_raw(data_dir: Path) -> pd.DataFrame:
    path = data_dir / "bank-additional-full.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return pd.read_csv(path, sep=";", dtype="string[pyarrow]", keep_default_na=False)


@pytest.fixture(scope="session")
def uci_typed(uci_raw: pd.DataFrame) -> pd.DataFrame:
    return validate(uci_raw, contracts.load("bank-marketing")).frame


@pytest.fixture(scope="session")
def shop_run(
    tmp_path_factory: pytest.TempPathFactory, shop_yaml: str, shop_rows: Callable[..., pd.DataFrame]
) -> ShopRun:
    return train_shop(tmp_path_factory.mktemp("shop"), shop_yaml, shop_rows)


@pytest.fixture(scope="session")
def shifted_run(tmp_path_factory: pytest.TempPathFactory, shop_yaml: str) -> ShiftedRun:
    return update_shifted(tmp_path_factory.mktemp("shifted"), shop_yaml)


@pytest.fixture(scope="session")
def shop_bundle(shop_run: ShopRun) -> Path:
    return shop_run.bundle


@pytest.fixture
def same_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes make bundles of the commit that this one knows; another may be made while the tests run."""
    monkeypatch.setenv("OFFERS_GIT_COMMIT", git_commit())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def offers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Call the command in this process: exit code, what it printed, what it complained of."""
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OFFERS_DATA_DIR", raising=False)

    from cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["offers", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """One file over http."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FileServer() as file:
        yield file


@pytest.fixture
def s3() -> Iterator[S3Double]:
    """An object store with the bucket `bank`."""
    with S3Double("bank") as double:
        yield double


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A directory that nobody may enter; even root is nobody."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)
