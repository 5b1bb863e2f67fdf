"""What MLflow shows of a ledger: read back through MLflow's own client, and out of its database."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from offers.evaluation.figures import Evaluation
from offers.governance import release as releases
from offers.governance.entries import Promoting, RolledBack
from offers.governance.registration import refused, register
from offers.registry.mirror import Mirror
from offers.registry.process import mirrored
from offers.settings import Settings
from offers.store.directory import DirectoryStore
from tests.support.ledgers import Bank, signer
from tests.support.loopback import Handler, Loopback
from tests.support.warranties import WARRANTIES

if TYPE_CHECKING:
    from mlflow import MlflowClient

# They are of what MLflow does with SQLAlchemy, and its makers' to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Mirrored:
    """A ledger with two releases of one bundle, and MLflow beside it."""

    client: "MlflowClient"
    bank: Bank
    home: Path
    first: str
    second: str

    def sync(self, run: str = "", report: Path | None = None) -> list[str]:
        mirror = Mirror(self.client, self.bank.ledger, self.home, (self.home / "artifacts").as_uri(), run, report)
        mirror.sync()
        return mirror.notes

    def versions(self) -> dict[str, dict[str, str]]:
        return {version.tags["offers.release"]: version.tags for version in self.client.search_model_versions("")}

    def alias(self, name: str) -> str:
        return str(self.client.get_model_version_by_alias("shop", name).tags["offers.release"])

    def runs(self) -> list[str]:
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return [run.info.run_id for run in self.client.search_runs(experiments)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, shop_bundle: Path) -> Mirrored:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    home = tmp_path_factory.mktemp("mirrored")
    uri = f"sqlite:///{home}/mlflow.db"
    bank = Bank(DirectoryStore(home))
    made = [
        releases.make(home / "releases", shop_bundle, text)
        for text in (WARRANTIES, WARRANTIES.replace("value: 30", "value: 31", 1))
    ]
    first, second = (register(bank.ledger, signer("trainer"), release) for release in made)
    return Mirrored(MlflowClient(uri, uri), bank, home, first, second)


def test_mlflow_follows_the_ledger_and_is_mended_where_it_was_written_over(shown: Mirrored, shop_bundle: Path) -> None:
    assert shown.sync() == []
    run = shown.client.get_run(shown.runs()[0])
    evaluation = Evaluation.model_validate_json((shop_bundle / "metrics.json").read_text("utf-8"))
    auc = evaluation.model["auc"]
    assert [run.data.metrics[name] for name in ("auc", "auc.low", "auc.high")] == [auc.value, auc.low, auc.high]
    windows = shown.client.get_metric_history(run.info.run_id, "window/auc")
    assert [metric.value for metric in windows] == [window.model["auc"].value for window in evaluation.windows]
    assert run.data.params["training.trees"] == "20"
    assert len(run.data.tags["offers.data.fingerprint"]) == 64
    assert {file.path for file in shown.client.list_artifacts(run.info.run_id, "offers")} >= {"offers/model-card.md"}
    assert {name: tags["offers.status"] for name, tags in shown.versions().items()} == {
        shown.first: "candidate",
        shown.second: "candidate",
    }
    for release in (shown.first, shown.second):
        shown.bank.approve(release)
        shown.bank.promote(release)
        shown.sync()
        assert shown.alias("champion") == release
    shown.bank.write("olga", Promoting(release=shown.first, back=True))
    shown.bank.write("olga", RolledBack(release=shown.first, withdrawn=shown.second))
    shown.sync()
    assert (shown.alias("champion"), shown.versions()[shown.second]["offers.status"]) == (shown.first, "withdrawn")
    assert shown.client.get_registered_model("shop").tags["offers.head"] == str(shown.bank.ledger.head)
    # Anybody may write into MLflow.
    shown.client.set_registered_model_alias("shop", "champion", "2")
    shown.client.set_registered_model_alias("shop", "challenger", "2")
    shown.client.set_model_version_tag("shop", "2", "offers.status", "champion")
    shown.client.delete_model_version("shop", "1")
    before = shown.runs()
    shown.sync()
    assert shown.alias("champion") == shown.first
    assert "challenger" not in shown.client.get_registered_model("shop").aliases
    assert shown.versions()[shown.second]["offers.status"] == "withdrawn"
    assert shown.runs() == before


def test_kubeflows_own_run_is_written_into_and_no_other_is_made(shown: Mirrored, tmp_path: Path) -> None:
    bank = Bank(DirectoryStore(tmp_path))
    opened = releases.load(shown.home / "releases" / shown.first)
    register(bank.ledger, signer("trainer"), opened)
    refused(bank.ledger, signer("trainer"), "shop", "0" * 64)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = type(shown.client)(uri, uri)
    kubeflow = client.create_run(client.create_experiment("offers")).info.run_id
    own = Mirrored(client, bank, tmp_path, opened.name, "")
    own.sync(kubeflow)
    own.sync()
    assert set(own.runs()) > {kubeflow}
    assert client.get_run(kubeflow).data.metrics["auc"] > 0.6
    assert client.get_run(kubeflow).info.status == "RUNNING"
    (other,) = set(own.runs()) - {kubeflow}
    assert client.get_run(other).data.tags["offers.gate"] == "refused"
    assert client.get_model_version("shop", "1").run_id == kubeflow


def test_a_report_goes_to_the_newest_training_even_where_the_gate_refused_it(shown: Mirrored, tmp_path: Path) -> None:
    bank, uri = Bank(DirectoryStore(tmp_path)), f"sqlite:///{tmp_path}/mlflow.db"
    opened = releases.load(shown.home / "releases" / shown.first)
    register(bank.ledger, signer("trainer"), opened)
    refused(bank.ledger, signer("trainer"), "shop", "0" * 64)
    (report := tmp_path / "report.html").write_text("<p>refused</p>")
    client = type(shown.client)(uri, uri)
    own = Mirrored(client, bank, tmp_path, opened.name, "")
    own.sync(report=report)
    pages = {
        client.get_run(run).data.tags["offers.bundle"]: {page.path for page in client.list_artifacts(run, "offers")}
        for run in own.runs()
    }
    refusal = pages.pop(f"refused-{bank.ledger.entries()[-1].number}")
    assert refusal == {"offers/report.html"}
    assert not any("offers/report.html" in names for names in pages.values())


class _Slow(Loopback):
    """A server that is well, and answers nothing else."""

    def __init__(self) -> None:
        over = self.over = Event()

        class Answers(Handler):
            def do_GET(self) -> None:
                if self.path != "/health":
                    over.wait()
                self.send(200, "text/plain", b"OK")

            def do_POST(self) -> None:
                over.wait()
                self.send(200, "text/plain", b"OK")

        super().__init__(Answers)

    def __exit__(self, *details: object) -> None:
        self.over.set()
        super().__exit__(*details)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Slow]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with _Slow() as server:
        yield server


def _settings(home: Path, tracking: str) -> Settings:
    Bank(DirectoryStore(home))
    return Settings(home=home, tracking=tracking)


def test_a_server_that_is_away_costs_a_warning(tmp_path: Path) -> None:
    warnings = list[str]()
    with mirrored(_settings(tmp_path, "http://127.0.0.1:9"), warnings.append):
        pass
    assert len(warnings) == 1
    assert "http://127.0.0.1:9" in warnings[0]
    assert "'offers model sync' makes up for it" in warnings[0]


@pytest.mark.slow
def test_a_slow_server_costs_five_seconds_and_a_warning(tmp_path: Path, slow: _Slow) -> None:
    warnings, settings = list[str](), _settings(tmp_path, slow.url)
    with mirrored(settings, warnings.append):
        pass
    assert "the server took more than 5 s" in warnings[0]


@pytest.mark.slow
def test_the_process_makes_the_database_and_nothing_leaves_the_machine(tmp_path: Path, shop_bundle: Path) -> None:
    bank, warnings = Bank(DirectoryStore(tmp_path)), list[str]()
    with mirrored(Settings(home=tmp_path), warnings.append):
        release = register(
            bank.ledger, signer("trainer"), releases.make(tmp_path / "releases", shop_bundle, WARRANTIES)
        )
    assert warnings == []
    with closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as database:
        rows = database.execute("SELECT value FROM model_version_tags WHERE key = 'offers.release'").fetchall()
    assert rows == [(release,)]
    # Somebody's newer MLflow has opened the file.
    with closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    with mirrored(Settings(home=tmp_path), warnings.append):
        bank.approve(release)
    assert len(warnings) == 1
    assert "out-of-date database schema (found version 0123456789ab" in warnings[0]
    assert "move its file away where a newer MLflow wrote it, then run 'offers model sync'" in warnings[0]
    assert "makes up for it" not in warnings[0]
    assert len(bank.ledger.state().releases[release].approvals) == 2
    (tmp_path / "mlflow" / "mlflow.db").rename(tmp_path / "newer.db")
    with mirrored(Settings(home=tmp_path), warnings.append):
        pass
    assert len(warnings) == 1
    with closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as database:
        rows = database.execute("SELECT value FROM model_version_tags WHERE key = 'offers.release'").fetchall()
    assert rows == [(release,)]
