"""Alarms that arrive over HTTP as CloudEvents, and what they start."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent

from deployment import predictor
from offers.retraining.journal import Outcome, Request
from offers.retraining.retrainer import Retrainer
from offers.retraining.signature import HEADER, key_of, sign
from pipelines.starting import LocalRuns
from pipelines.trigger import BODY_LIMIT, Authority
from tests.support.ledgers import journal_at
from tests.support.runs import ShiftedRun, ShopRun
from tests.support.trigger import Starts, served

ROOT = Path(__file__).parents[2]
ATTRIBUTES = {"type": "offers.drift.alarm", "source": "/offers/drift", "id": "a1", "subject": "shop-1"}
DATA: dict[str, Any] = {
    "bundle": "shop-0123456789abcdef",
    "signals": {"data": True, "score": True},
    "reasons": ["age: KS distance 0.31"],
}


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
def client(tmp_path: Path, starts: Starts) -> Iterator[httpx.Client]:
    authority = Authority(served=lambda: DATA["bundle"])
    with served(Retrainer(journal_at(tmp_path, "shop"), starts), authority) as found:
        yield found


def event(data: Any = DATA, **attributes: str) -> CloudEvent:
    return CloudEvent(ATTRIBUTES | attributes, data)


@pytest.mark.parametrize("encode", [to_structured, to_binary])
def test_an_alarm_starts_a_run_in_both_modes(client: httpx.Client, starts: Starts, encode: Any) -> None:
    headers, body = encode(event())
    answer = client.post("/", headers=headers, content=body)
    assert answer.status_code == 202
    assert answer.json()["started"]
    assert starts == [answer.json()["run"]]
    assert answer.json()["request"]["evidence"] == DATA


def test_an_alarm_that_is_sent_again_starts_nothing_more(client: httpx.Client, starts: Starts) -> None:
    headers, body = to_structured(event())
    answers = [client.post("/", headers=headers, content=body).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(starts) == 1
    assert len(client.get("/journal?format=json").json()["entries"]) == 1
    figures = client.get("/metrics").text
    assert 'offers_retraining_decisions_total{cause="alarm",started="true"} 3.0' in figures
    assert 'offers_retraining_decisions_total{cause="manual",started="false"} 0.0' in figures


@pytest.mark.parametrize(
    ("signals", "started"),
    [
        ({"data": True, "score": True, "performance": None}, True),
        ({"data": True, "score": False, "performance": True}, True),
        ({"data": False, "score": False, "performance": True}, False),
        ({"data": True}, False),
    ],
)
def test_two_signals_of_three_are_needed(
    client: httpx.Client, starts: Starts, signals: dict[str, bool | None], started: bool
) -> None:
    headers, body = to_structured(event(DATA | {"signals": signals}))
    decision = client.post("/", headers=headers, content=body).json()
    assert decision["started"] is started
    assert len(starts) == started
    assert client.get("/journal?format=json").json()["entries"] == [decision]


@pytest.mark.parametrize("action", ["retrain", "update", "recalibrate", "none"])
def test_a_verdict_decides_whatever_its_signals(client: httpx.Client, action: str) -> None:
    headers, body = to_structured(event(DATA | {"signals": {"performance": True}, "action": action}))
    decision = client.post("/", headers=headers, content=body).json()
    assert decision["request"]["action"] == action
    assert decision["started"] is (action != "none")


def test_a_published_image_asks_for_a_comparison_with_what_serves(tmp_path: Path, starts: Starts) -> None:
    headers, body = to_structured(event({"image": "ghcr.io/bank/offers:2"}, type="offers.image.published"))
    journal = journal_at(tmp_path, "shop")
    with served(Retrainer(journal, starts)) as client:
        answer = client.post("/", headers=headers, content=body)
        assert (answer.status_code, "no release serves" in answer.json()["error"]) == (409, True)
    with served(Retrainer(journal, starts), Authority(served=lambda: DATA["bundle"])) as client:
        answers = [client.post("/", headers=headers, content=body).json() for _ in range(2)]
        other = to_structured(event({"image": "no image"}, type="offers.image.published"))
        refused = client.post("/", headers=other[0], content=other[1])
    assert answers[0] == answers[1]
    assert starts == [answers[0]["run"]]
    assert answers[0]["request"]["cause"] == "new image"
    assert answers[0]["request"]["evidence"]["bundle"] == DATA["bundle"]
    assert "ghcr.io/bank/offers:2" in answers[0]["reason"]
    assert (refused.status_code, "expected a name such as" in refused.json()["error"]) == (400, True)


@pytest.mark.parametrize("key", ["", "k" * 32])
def test_the_workflow_that_publishes_an_image_tells_the_trigger(tmp_path: Path, starts: Starts, key: str) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text("utf-8"))
    (step,) = (one for one in workflow["jobs"]["image"]["steps"] if "TRIGGER" in one.get("env", {}))

    def told(url: str) -> subprocess.CompletedProcess[str]:
        own = {"TRIGGER": url, "KEY": key, "IMAGE": "ghcr.io/bank/offers-pipeline-python:abc", "NO_PROXY": "*"}
        own |= {"GITHUB_REPOSITORY": "bank/offers", "GITHUB_SHA": "abc"}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        return subprocess.run(command, env=os.environ | own, cwd=ROOT, capture_output=True, text=True, check=False)

    authority = Authority(key_of(key), served=lambda: DATA["bundle"])
    with served(Retrainer(journal_at(tmp_path, "shop"), starts), authority) as client:
        done = told(str(client.base_url))
        assert done.returncode == 0, done.stderr
        (decision,) = client.get("/journal?format=json").json()["entries"]
    assert (decision["request"]["cause"], starts) == ("new image", [decision["run"]])
    assert decision["request"]["evidence"]["image"] == "ghcr.io/bank/offers-pipeline-python:abc"
    assert "names no trigger" in told("").stdout
    # The image is out already, so that a trigger that is away fails no build.
    assert step["continue-on-error"]


def test_another_alarm_waits_for_the_run(client: httpx.Client, starts: Starts) -> None:
    for name in ("a1", "a2"):
        headers, body = to_structured(event(id=name))
        answer = client.post("/", headers=headers, content=body).json()
    assert not answer["started"]
    assert answer["reason"].startswith(f"{starts[0]} is under way")


@pytest.mark.parametrize(
    ("data", "attributes", "sentence"),
    [
        (
            DATA,
            {"type": "offers.scored"},
            "the event's type: expected 'offers.drift.alarm' or 'offers.image.published', got",
        ),
        ([1], {}, "the event's data: expected an object, got a list"),
        ({}, {}, "the event's 'bundle': expected one of contract 'shop', got null"),
        ({"bundle": "bank-1"}, {}, "the event's 'bundle': expected one of contract 'shop', got 'bank-1'"),
        (
            DATA | {"signals": {"data": "yes"}},
            {},
            "the event's 'signals': expected true, false or null by data, score, performance, got {'data': 'yes'}",
        ),
        (
            DATA | {"signals": []},
            {},
            "the event's 'signals': expected true, false or null by data, score, performance, got []",
        ),
        (DATA, {"id": "x" * 200}, "the event's source and id: expected at most 200 characters, got 214"),
        (DATA, {"id": "x" * 201}, "the event's 'id': expected text of 1 to 200 characters, got 201 characters"),
        (DATA | {"x": float("nan")}, {}, "NaN is no number of 64 bits"),
        (DATA | {"x": [1, -float("inf")]}, {}, "-Infinity is no number of 64 bits"),
        (DATA | {"x": 10**4290}, {}, "10000000000000000000 is no number of 64 bits"),
        (DATA | {"x": "\ud800"}, {}, "half of a surrogate pair"),
        (DATA, {"id": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_a_foreign_event_is_refused(
    client: httpx.Client, starts: Starts, data: Any, attributes: dict[str, str], sentence: str
) -> None:
    headers, body = to_structured(event(data, **attributes))
    answer = client.post("/", headers=headers, content=body)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert starts == []
    assert client.get("/journal?format=json").json() == {"entries": []}


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'"text"', b"{}", b"\xff\xfe", b'{"specversion": "9"}'])
@pytest.mark.parametrize("kind", ["application/json", "application/cloudevents+json", "text/plain"])
def test_what_is_no_event_is_refused(client: httpx.Client, body: bytes, kind: str) -> None:
    answer = client.post("/", headers={"content-type": kind}, content=body)
    assert answer.status_code == (415 if kind == "text/plain" else 400)
    assert re.match("the (body|event)|header content-type: expected ", answer.json()["error"])


def test_a_body_beyond_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post("/", content=b"x" * (BODY_LIMIT + 1))
    assert answer.status_code == 413


def test_a_ledger_that_was_changed_starts_nothing(client: httpx.Client, tmp_path: Path, starts: Starts) -> None:
    path = tmp_path / "ledger" / "000000000.json"
    path.write_bytes(path.read_bytes().replace(b"trainer", b"trained"))
    headers, body = to_structured(event())
    answer = client.post("/", headers=headers, content=body)
    assert answer.status_code == 503
    assert "entry 0: it was changed" in answer.json()["error"]
    assert client.get("/journal").status_code == 503
    assert starts == []


@pytest.mark.parametrize("depth", [300, 900, 20_000])
def test_evidence_that_could_not_be_read_again_is_refused(client: httpx.Client, starts: Starts, depth: int) -> None:
    headers, body = to_structured(event())
    deep = body.replace(b'"age: KS distance 0.31"', b"[" * depth + b"]" * depth)
    assert client.post("/", headers=headers, content=deep).status_code == 400
    assert client.get("/journal?format=json").json() == {"entries": []}
    assert client.post("/", headers=headers, content=body).json()["started"]
    assert len(starts) == 1


def test_only_the_served_bundle_is_a_parent(tmp_path: Path, starts: Starts) -> None:
    authority = Authority(served=lambda: "shop-fedcba9876543210")
    with served(Retrainer(journal_at(tmp_path, "shop"), starts), authority) as client:
        headers, body = to_structured(event(DATA | {"action": "recalibrate"}))
        answer = client.post("/", headers=headers, content=body)
        assert answer.status_code == 409
        assert "expected shop-fedcba9876543210, which is served" in answer.json()["error"]
        assert client.get("/journal?format=json").json() == {"entries": []}
        headers, body = to_structured(event(DATA | {"bundle": "shop-fedcba9876543210", "action": "recalibrate"}))
        assert client.post("/", headers=headers, content=body).json()["started"]


@pytest.mark.parametrize("action", ["update", "recalibrate"])
def test_no_bundle_is_a_parent_while_nobody_knows_which_is_served(tmp_path: Path, starts: Starts, action: str) -> None:
    with served(Retrainer(journal_at(tmp_path, "shop"), starts)) as client:
        headers, body = to_structured(event(DATA | {"action": action}))
        answer = client.post("/", headers=headers, content=body)
        assert answer.status_code == 409
        assert "nobody knows whether shop-0123456789abcdef is served: promote its release" in answer.json()["error"]
        assert starts == []
        headers, body = to_structured(event(DATA | {"action": "retrain"}))
        assert client.post("/", headers=headers, content=body).json()["started"]


def test_an_alarm_waits_while_the_predictor_can_not_be_asked(tmp_path: Path, starts: Starts) -> None:
    authority = Authority(served=lambda: predictor.served("http://127.0.0.1:9"))
    with served(Retrainer(journal_at(tmp_path, "shop"), starts), authority) as client:
        headers, body = to_structured(event())
        answer = client.post("/", headers=headers, content=body)
        assert answer.status_code == 503
        assert "http://127.0.0.1:9/v2/models/offers gives no answer" in answer.json()["error"]
        assert starts == []
        assert client.get("/journal?format=json").json() == {"entries": []}


def test_alarms_are_signed_where_there_is_a_key(tmp_path: Path, starts: Starts) -> None:
    key = key_of("k" * 32)
    with served(Retrainer(journal_at(tmp_path, "shop"), starts), Authority(key)) as client:
        headers, body = to_structured(event())
        for signature in ("", "t=1,v1=" + "0" * 64, sign(key, body + b" "), sign(key, body, 1)):
            answer = client.post("/", headers=headers | {HEADER: signature}, content=body)
            assert answer.status_code == 401
            assert HEADER in answer.json()["error"]
        moved, content = to_binary(event())
        answer = client.post("/", headers=moved | {HEADER: sign(key, content)}, content=content)
        assert answer.status_code == 401
        assert starts == []
        assert client.post("/", headers=headers | {HEADER: sign(key, body)}, content=body).json()["started"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
def test_a_page_may_send_no_alarm(client: httpx.Client, starts: Starts, origin: str) -> None:
    headers, body = to_structured(event())
    answer = client.post("/", headers=headers | {"origin": origin}, content=body)
    assert answer.status_code == 403
    answer = client.post("/", headers={"content-type": "text/plain"}, content=body)
    assert answer.status_code == 415
    assert starts == []


@pytest.mark.slow
@pytest.mark.usefixtures("same_commit")
def test_an_alarm_leads_to_a_new_bundle_and_both_are_in_the_journal(shop_run: ShopRun, tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    arguments = {"contract": shop_run.text, "source": str(shop_run.csv), "publish": str(bundles)}
    journal = journal_at(tmp_path, "shop")
    runs = LocalRuns(arguments, tmp_path / "runs", journal.ended)
    retrainer = Retrainer(journal, runs)
    with served(retrainer) as client:
        headers, body = to_structured(event())
        assert client.post("/", headers=headers, content=body).json()["started"]
        runs.wait()
        decision, outcome = client.get("/journal?format=json").json()["entries"]
    assert outcome["run"] == decision["run"]
    assert outcome["bundle"] == f"{bundles}/{shop_run.bundle.name}"
    assert (bundles / shop_run.bundle.name / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("same_commit")
def test_an_alarm_that_asks_for_an_update_leads_to_a_bundle_with_the_same_trees(
    shifted_run: ShiftedRun, tmp_path: Path
) -> None:
    parent, child, published = shifted_run.parent, shifted_run.child, tmp_path / "bundles"
    shutil.copytree(parent.bundle, published / parent.bundle.name)
    arguments = {"contract": child.text, "source": str(child.csv), "publish": str(published)}
    journal = journal_at(tmp_path, "shop")
    runs = LocalRuns(arguments, tmp_path / "runs", journal.ended)
    evidence = {"bundle": parent.bundle.name}
    request = Request(id="a1", contract="shop", cause="alarm", action="update", evidence=evidence)
    decision = Retrainer(journal, runs).ask(request)
    runs.wait()
    outcome = journal.entries()[-1]
    assert outcome.run == decision.run
    assert isinstance(outcome, Outcome)
    assert outcome.bundle == f"{published}/{child.bundle.name}", outcome.note
    booster = (published / child.bundle.name / "booster.ubj").read_bytes()
    assert booster == (parent.bundle / "booster.ubj").read_bytes()
