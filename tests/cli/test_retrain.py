"""offers retrain on the command line: a person asks, a schedule asks, an alarm asks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent

from cli.chores import grows
from offers.contract import contract as contracts
from tests.support.runs import ShopRun, offers
from tests.support.services import DEADLINE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("same_commit")]


@contextmanager
def listening(home: Path, *arguments: object) -> Iterator[str]:
    """The service as a process; gives its address, and ends it as an operator would."""
    command = [str(Path(sys.executable).parent / "offers"), "retrain", "listen", "--port", "0", *map(str, arguments)]
    environment = os.environ | {"OFFERS_HOME": str(home)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield f"http://127.0.0.1:{json.loads(line)['http_port']}"
        process.terminate()
        process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate()


def entries(home: Path, contract: Path) -> list[dict[str, object]]:
    done = offers(home, "retrain", "journal", "--json", "--contract", contract)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_person_asks_and_gets_a_bundle(shop_run: ShopRun, tmp_path: Path) -> None:
    where = ("--contract", shop_run.contract_file, "--source", shop_run.csv)
    done = offers(tmp_path, "retrain", "now", *where, "--reason", "new prices")
    assert done.returncode == 0, done.stderr
    assert "a person asked for it: new prices" in done.stdout
    bundle = tmp_path / "bundles" / shop_run.bundle.name
    assert f"bundle  {bundle}" in done.stdout
    decision, outcome = entries(tmp_path, shop_run.contract_file)
    assert (decision["started"], outcome["bundle"]) == (True, str(bundle))


def test_a_source_that_is_not_there_is_written_down(shop_run: ShopRun, tmp_path: Path) -> None:
    done = offers(tmp_path, "retrain", "now", "--contract", shop_run.contract_file, "--source", tmp_path / "none.csv")
    assert done.returncode == 2
    assert "none.csv" in done.stderr
    assert "Traceback" not in done.stderr
    _, outcome = entries(tmp_path, shop_run.contract_file)
    assert not outcome["succeeded"]
    acts = [json.loads(line)["act"] for line in offers(tmp_path, "audit", "log").stdout.splitlines()]
    assert [act["kind"] for act in acts] == ["key added", "retraining decided", "retraining ended"]
    assert [act["run"] for act in acts[1:]] == [outcome["run"]] * 2


def test_an_alarm_and_a_schedule_ask(shop_run: ShopRun, tmp_path: Path) -> None:
    where = ("--contract", shop_run.contract_file, "--source", tmp_path / "none.csv")
    data = {"bundle": shop_run.bundle.name, "signals": {"data": True, "score": False}, "reasons": ["age moved"]}
    event = CloudEvent({"type": "offers.drift.alarm", "source": "/offers/drift", "id": "a1"}, data)
    with listening(tmp_path, *where, "--every", "7d") as url:
        headers, body = to_structured(event)
        answer = httpx.post(url, headers=headers, content=body, trust_env=False)
        assert answer.status_code == 202, answer.text
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    (decision,) = entries(tmp_path, shop_run.contract_file)
    assert not decision["started"]
    assert decision["reason"] == "one signal of three is not enough; outcomes tell more: run the monitoring pipeline"


def test_updates_are_asked_for_where_the_source_can_grow() -> None:
    contract = contracts.load("bank-marketing")
    assert [grows(contract, source) for source in ("", "simulated:1:5", "rows.csv", "+ decisions:tables")] == [
        False, False, True, True,
    ]  # fmt: skip


def test_an_update_has_no_schedule(tmp_path: Path) -> None:
    done = offers(tmp_path, "pipeline", "schedule", "update", "--cron", "0 0 3 * * *", "--publish", "s3://b/p")
    assert (done.returncode, "updates the bundle that serves" in done.stderr) == (2, True)


def test_a_port_that_is_taken(shop_run: ShopRun, tmp_path: Path) -> None:
    where = ("--contract", shop_run.contract_file)
    with listening(tmp_path, *where) as url:
        port = url.rpartition(":")[2]
        done = offers(tmp_path, "retrain", "listen", *where, "--port", port)
    assert done.returncode == 2
    assert f"can't listen on port {port} of 127.0.0.1" in done.stderr
