"""Runs through the official client of Kubeflow Pipelines, against a double that speaks its wire format."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from offers.errors import OffersError, ServiceError
from offers.store.s3 import S3Store, connect
from pipelines.compilation import compile_pipeline
from pipelines.kubeflow import KEPT, TOKEN_FILE, Kubeflow
from tests.support.http_double import FileServer
from tests.support.kubeflow_double import API, KubeflowDouble
from tests.support.s3_double import S3Double

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pipeline("training", tmp_path_factory.mktemp("package") / "training.yaml")


@pytest.fixture
def double() -> Iterator[KubeflowDouble]:
    with KubeflowDouble() as found:
        yield found


def test_a_run_is_submitted_with_its_graph_and_arguments(double: KubeflowDouble, package: Path) -> None:
    run = Kubeflow(double.url).submit(package, {"contract": "shop", "trials": 3}, "retrain-shop-1")
    assert (run.name, run.state, run.finished, run.over) == ("retrain-shop-1", "waiting", None, False)
    (sent,) = double.runs
    assert sent["runtime_config"]["parameters"] == {"contract": "shop", "trials": 3}
    spec = sent["pipeline_spec"]["pipeline_spec"]
    assert set(spec["root"]["dag"]["tasks"]) >= {"ingest", "validate", "prepare", "train", "evaluate", "gate"}
    executors = sent["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    mounted = {name: place.get("secretAsVolume", []) for name, place in executors.items()}
    writing = {name for name, volumes in mounted.items() if "ledger-key" in str(volumes)}
    assert writing == {"exec-gate", "exec-package", "exec-promote"}
    for name in writing:
        container = sent["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"][name]["container"]
        assert {"name": "OFFERS_KEY", "value": "/run/secrets/ledger/key.pem"} in container["env"]
    assert all(executor["securityContext"]["runAsNonRoot"] for executor in executors.values())
    assert double.experiments[0]["display_name"] == "offers"


def test_the_same_name_is_never_run_twice(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    runs = [kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-1") for _ in range(3)]
    assert runs[0].id == runs[1].id == runs[2].id
    assert len(double.runs) == 1
    assert kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-2").id != runs[0].id


def planted(double: KubeflowDouble, *names: str) -> None:
    """Runs as a real Kubeflow tells of them."""
    for name in names:
        double.runs.append(json.loads((RECORDED / f"run-{name}.json").read_text("utf-8")))


def test_a_run_is_told_step_by_step_by_its_name_or_its_id(double: KubeflowDouble) -> None:
    planted(double, "failed-source", "succeeded")
    kubeflow = Kubeflow(double.url)
    failed = kubeflow.run("retrain-bank-marketing-b2417fb268fa")
    assert failed == kubeflow.run("0c4e9d9a-2db5-40f0-a6e3-9a7858b6234c")
    assert (failed.over, failed.state, failed.error, failed.lost_at) == (True, "failed", "", "")
    assert [step.state for step in failed.steps] == ["failed", *["not run"] * 7]
    assert failed.root == "s3://mlpipeline/v2/artifacts"
    assert kubeflow.run("first-86cbb9c055ce-1").state == "succeeded"


def test_a_list_says_which_run_was_stopped_and_which_model_was_refused(double: KubeflowDouble) -> None:
    planted(double, "succeeded", "terminated", "gate-refused", "failed-killed")
    assert [run.state for run in Kubeflow(double.url).runs()] == ["failed", "refused", "stopped", "succeeded"]


def test_runs_come_the_newest_first(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    for number in range(3):
        kubeflow.submit(package, {"contract": "shop"}, f"run-{number}")
    assert [run.name for run in kubeflow.runs()] == ["run-2", "run-1", "run-0"]


def test_a_schedule_replaces_the_one_of_its_name_and_leaves_that_ones_runs(
    double: KubeflowDouble, package: Path
) -> None:
    kubeflow = Kubeflow(double.url)
    first = kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 3 * * *")
    second = kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 4 * * *")
    assert first != second
    # Kubeflow would delete with a schedule the workflows and logs of its runs, one under way as well.
    old, new = double.recurring
    assert (old["recurring_run_id"], old["status"]) == (first, "DISABLED")
    assert (new["recurring_run_id"], new["status"]) == (second, "ENABLED")
    assert new["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (new["max_concurrency"], new["no_catchup"]) in [("1", True), (1, True)]
    assert [(one.id, one.name, one.cron) for one in kubeflow.schedules()] == [(second, "nightly", "0 0 4 * * *")]


def test_a_schedule_that_ended_long_ago_is_deleted_with_the_next_change(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    first = kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 3 * * *")
    kubeflow.unschedule("nightly")
    double.recurring[0]["updated_at"] = (datetime.now(UTC) - KEPT - timedelta(hours=1)).isoformat()
    second = kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 4 * * *")
    assert first not in [one["recurring_run_id"] for one in double.recurring]
    assert [one.id for one in kubeflow.schedules()] == [second]


def test_a_schedule_ends_once(double: KubeflowDouble, package: Path) -> None:
    kubeflow = Kubeflow(double.url)
    kubeflow.schedule(package, {"contract": "shop"}, "nightly", "0 0 3 * * *")
    kubeflow.unschedule("nightly")
    assert kubeflow.schedules() == []
    with pytest.raises(ServiceError, match=r"schedule 'nightly': Kubeflow at .* has none of that name"):
        kubeflow.unschedule("nightly")


def test_a_cron_line_of_five_fields_is_refused(double: KubeflowDouble, package: Path) -> None:
    with pytest.raises(ServiceError, match=r"expected six fields, .*, got 5"):
        Kubeflow(double.url).schedule(package, {}, "nightly", "0 3 * * *")
    assert double.recurring == []


def test_nobody_there() -> None:
    with pytest.raises(
        ServiceError, match=r"no Kubeflow Pipelines answers at http://127.0.0.1:9: .*OFFERS_KUBEFLOW_URL"
    ):
        Kubeflow("http://127.0.0.1:9")


def test_something_else_there(server: FileServer) -> None:
    with pytest.raises(ServiceError, match="is not Kubeflow Pipelines"):
        Kubeflow(server.url.removesuffix("/small.csv"))


def test_an_unknown_run(double: KubeflowDouble) -> None:
    with pytest.raises(ServiceError, match=r"run 'run-77': Kubeflow at .* knows none of that name"):
        Kubeflow(double.url).run("run-77")


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_is_told_in_a_sentence(double: KubeflowDouble, package: Path, status: int) -> None:
    kubeflow = Kubeflow(double.url)
    double.refuse[f"POST {API}/runs"] = status
    with pytest.raises(ServiceError, match=f"answers {status}: refused with {status}"):
        kubeflow.submit(package, {"contract": "shop"}, "retrain-shop-1")
    assert double.runs == []


def test_half_an_answer(double: KubeflowDouble) -> None:
    kubeflow = Kubeflow(double.url)
    double.broken = True
    with pytest.raises(ServiceError, match="has gone away"):
        kubeflow.runs()


def test_a_token_is_read_from_the_file_that_kfps_client_knows(
    double: KubeflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.refuse[f"GET {API}/healthz"] = 403
    with pytest.raises(ServiceError, match=f"refuses with 403: .* in {TOKEN_FILE}"):
        Kubeflow(double.url)
    del double.refuse[f"GET {API}/healthz"]
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "token"))
    double.tokens.clear()
    Kubeflow(double.url).runs()
    assert double.tokens == {"Bearer secret"}
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "absent"))
    with pytest.raises(ServiceError, match=f"{TOKEN_FILE}: expected a file with a token"):
        Kubeflow(double.url)


Command = Callable[..., Result]


@pytest.fixture
def command(double: KubeflowDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line within this process, where no cluster is configured."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["pipeline", *map(str, arguments), "--kubeflow", double.url])

    return call


def test_the_command_line_submits_and_schedules(double: KubeflowDouble, command: Command) -> None:
    submitted = command("submit", "--publish", "s3://bank/bundles", "--name", "first", "--contract", "personal-loan")
    assert submitted.exit_code == 0, submitted.output
    assert submitted.stdout == f"runs-1  first  waiting\n{double.url}/#/runs/details/runs-1\n"
    assert double.runs[0]["runtime_config"]["parameters"]["publish"] == "s3://bank/bundles"
    scheduled = command("schedule", "--publish", "s3://bank/bundles", "--cron", "0 0 3 * * *")
    assert scheduled.stdout == "recurringruns-1  train-bank-marketing  0 0 3 * * *\n"
    assert command("schedules").stdout.split()[:2] == ["train-bank-marketing", "0"]
    assert command("unschedule", "train-bank-marketing").exit_code == 0
    assert command("schedules").stdout == ""


def test_the_command_line_submits_any_pipeline(double: KubeflowDouble, command: Command) -> None:
    places = ["--set", "bundle=s3://bank/bundles", "--set", "scored=s3://bank/scored", "--set", "store=s3://bank"]
    done = command("schedule", "monitoring", *places, "--set", "since=7d", "--cron", "0 0 5 * * *")
    assert done.exit_code == 0, done.output
    assert done.stdout == "recurringruns-1  monitor-bank-marketing  0 0 5 * * *\n"
    assert double.recurring[0]["runtime_config"]["parameters"] == {
        "bundle": "s3://bank/bundles",
        "scored": "s3://bank/scored",
        "store": "s3://bank",
        "since": "7d",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("submit", "--publish", "bundles"), "expected s3://bucket/prefix"),
        (("submit",), "expected s3://bucket/prefix, where a bundle that passed goes"),
        (("submit", "market"), "pipeline 'market': expected one of training, "),
        (("submit", "monitoring", "--set", "bundle=s3://b/c"), "pipeline 'monitoring' needs scored, store"),
        (("submit", "monitoring", "--seed", "3"), "pipeline 'monitoring' takes no seed: it takes bundle, scored"),
        (("submit", "monitoring", "--set", "seed"), "expected NAME=VALUE"),
        (("submit", "--publish", "s3://b/c", "--set", "trials=many"), "expected Integer, got 'many'"),
        (("unschedule", "nightly"), "schedule 'nightly': Kubeflow at"),
        (("status", "runs-2"), "run 'runs-2': Kubeflow at"),
    ],
)
def test_a_mistake_starts_nothing(
    double: KubeflowDouble, command: Command, arguments: tuple[str, ...], sentence: str
) -> None:
    done = command(*arguments)
    assert isinstance(done.exception, OffersError)
    assert sentence in str(done.exception)
    assert double.runs == double.recurring == []


@pytest.mark.parametrize(
    ("name", "code", "first", "last"),
    [
        ("succeeded", 0, "first-86cbb9c055ce-1  succeeded  began", ""),
        ("terminated", 1, "retrain-bank-marketing-08c256793c2f  stopped  began", "somebody stopped it"),
        ("failed-source", 1, "retrain-bank-marketing-b2417fb268fa  failed  began", "ingest: the object store is away"),
        ("gate-refused", 3, "lc-strict  refused  began", "gate: failed: auc at least 0.99"),
    ],
)
def test_the_status_of_a_run_fits_on_a_page_and_says_why(
    double: KubeflowDouble,
    command: Command,
    s3: S3Double,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
    first: str,
    last: str,
) -> None:
    planted(double, name)
    run = double.runs[0]
    store = S3Store(connect(s3.settings), "mlpipeline", f"v2/artifacts/offers-training/{run['run_id']}")
    s3.buckets["mlpipeline"] = {}
    store.write_bytes("ingest/25/executor-logs-0", b"offers: stopped: the object store is away\n")
    store.write_bytes("gate/26/executor-logs-0", b"offers: failed: auc at least 0.99\n")
    monkeypatch.setenv("OFFERS_S3_ENDPOINT", f"http://{s3.address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    done = command("status", run["display_name"])
    assert done.exit_code == code
    assert done.stdout.startswith(first)
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) <= 15
    assert [line.split()[0] for line in lines[1:9]] == [
        "ingest",
        "validate",
        "prepare",
        "train",
        "evaluate",
        "gate",
        "package",
        "deploy",
    ]
    assert not last or f"  {last}" in lines
    listed = command("list")
    assert listed.stdout.split()[-2:] == [run["display_name"], run["run_id"]]
    if name == "failed-source":
        assert command("logs", run["run_id"]).stdout == "== ingest\noffers: stopped: the object store is away\n"
        assert "has ingest, validate" in str(command("logs", run["run_id"], "--step", "tarin").exception)


def test_where_no_log_can_be_reached_the_status_says_so(double: KubeflowDouble, command: Command) -> None:
    planted(double, "failed-source")
    done = command("status", double.runs[0]["run_id"])
    assert done.exit_code == 1
    assert (
        "ingest: why can't be told, as run retrain-bank-marketing-b2417fb268fa has no logs of ingest: " in done.stderr
    )
    assert "no cluster is configured" in done.stderr
