"""offers serve and offers rank, as they are typed; what the services answer is tested elsewhere."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.serve import rank, serve, until_told
from offers.errors import BundleError, CatalogueError, OffersError, RequestError, ServiceError
from serving.local import SidecarOptions, services, sidecar_python
from tests.support import loopback
from tests.support.services import DEADLINE
from tests.support.sidecar import until
from tests.support.warranties import WARRANTIES

PREDICTION = {
    "customer_id": "c1",
    "decision_id": "d1",
    "versions": {"model": "shop-1"},
    "fallback": False,
    "offers": [
        {
            "rank": 1,
            "offer_id": "full",
            "propensity": 0.5,
            "value": 30.0,
            "score": 11.0,
            "action_probability": 1.0,
            "reasons": ["HIGHEST_SCORE"],
        }
    ],
    "withheld": [{"offer_id": "free", "reasons": [{"code": "NO_MEMBER", "text": "member equal to True"}]}],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "warranties.yaml"
    path.write_text(WARRANTIES)
    return path


@pytest.fixture
def customer(tmp_path: Path) -> Path:
    path = tmp_path / "customer.json"
    path.write_text('{"customer_id": "c1"}')
    return path


@contextmanager
def answering(prediction: dict[str, Any]) -> Iterator[tuple[str, list[bytes]]]:
    """A ranker that always gives the same answer; its address, and the bodies that it was asked."""
    asked: list[bytes] = []

    class Handler(loopback.Handler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_json(200, {"predictions": [prediction]})

    with loopback.Loopback(Handler) as server:
        yield server.url, asked


@contextmanager
def unused_port() -> Iterator[int]:
    """A port that is bound, where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_rank_goes_past_a_proxy(
    customer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with unused_port() as port, answering(PREDICTION) as (url, _):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        rank(str(customer), url)
    assert "decision d1" in capsys.readouterr().out


def test_rank_prints_names_as_they_are(customer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = json.loads(json.dumps(PREDICTION))
    odd["customer_id"], odd["offers"][0]["offer_id"] = "[/bold]x :smile:", "[red]full"
    odd["withheld"][0]["reasons"][0]["text"] = "[/] not a member"
    with answering(odd) as (url, _):
        rank(str(customer), url)
    shown = capsys.readouterr().out
    assert "[/bold]x :smile:  decision d1" in shown
    assert "[red]full" in shown
    assert "withheld, NO_MEMBER, [/] not a member: free" in shown


def test_rank_leaves_nan_to_the_ranker(customer: Path) -> None:
    customer.write_text('{"customer_id": "c1", "context": {"rating": NaN}}')
    with answering(PREDICTION) as (url, asked):
        rank(str(customer), url)
    [instance] = json.loads(asked[0])["instances"]
    assert math.isnan(instance["context"]["rating"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 100_000 + "]" * 100_000, "got one nested too deeply"),
        ("[1]", "expected a JSON object, got list"),
        ("{", "expected a JSON file with an instance: Expecting"),
    ],
)
def test_rank_refuses_what_is_no_request(text: str, sentence: str, customer: Path) -> None:
    customer.write_text(text)
    with pytest.raises(RequestError, match=sentence):
        rank(str(customer))


def test_an_unknown_bundle_is_looked_for_in_two_places(home: Path) -> None:
    with pytest.raises(BundleError) as refusal:
        serve("nope")
    places = f"{home.parent / 'nope'} or {home / 'bundles' / 'nope'}"
    assert str(refusal.value) == f"--bundle 'nope': there is no such bundle; expected its contract.yaml in {places}"
    assert not home.exists()


def test_a_catalogue_of_another_contract_is_refused_before_anything_starts(home: Path, shop_bundle: Path) -> None:
    with pytest.raises(CatalogueError, match="it is for 'personal-loan', and the contract in use is 'shop'"):
        serve(str(shop_bundle), "personal-loan")
    assert not home.exists()


@pytest.mark.parametrize("sink", ["nope", "ftp://127.0.0.1/", "http://", "http://me:secret@host/", "http://host:port/"])
def test_a_sink_that_is_no_address_is_refused_before_anything_starts(sink: str) -> None:
    with pytest.raises(ServiceError, match="--sink: expected http://host:port/path, without a password, got"):
        SidecarOptions(Path("python"), sink)
    assert SidecarOptions(Path("python"), "https://sink.example:8443/alarms").sink == "https://sink.example:8443/alarms"


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path, shop_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = f"^can't listen on port {port} of 127.0.0.1: Address already in use; name another port, or 0"
        with pytest.raises(ServiceError, match=expected), services(shop_bundle, WARRANTIES, tmp_path / "serve", port):
            pytest.fail("they have started")
    assert list((tmp_path / "serve").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_way_to_be_told_leaves_the_block_once(number: signal.Signals) -> None:
    seen: list[int] = []
    before = signal.signal(number, lambda told, _: seen.append(told))
    try:
        with until_told():
            try:
                signal.raise_signal(number)
                pytest.fail("it goes on")
            finally:
                signal.raise_signal(number)
        assert seen == []
        signal.raise_signal(number)
        assert seen == [number]
    finally:
        signal.signal(number, before)


def test_nohup_outlives_the_terminal() -> None:
    before, reached = signal.signal(signal.SIGHUP, signal.SIG_IGN), False
    try:
        with until_told():
            signal.raise_signal(signal.SIGHUP)
            reached = True
        assert reached
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def started(bundle: Path, catalogue: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [str(Path(sys.executable).parent / "offers"), "serve", "--port", "0"]
    command += ["--bundle", str(bundle), "--catalogue", str(catalogue)]
    # A test run may be one that nohup started, which is handed down.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def children(process: "subprocess.Popen[str]", count: int) -> list[psutil.Process]:
    """Its services, as soon as there are so many."""
    found: list[psutil.Process] = until(psutil.Process(process.pid).children, lambda seen: len(seen) >= count)
    assert len(found) == count
    return found


def introduction(process: "subprocess.Popen[str]") -> dict[str, str]:
    """What it says of its services as soon as they answer, by the first word of each line."""
    assert process.stdout is not None
    said: dict[str, str] = {}
    for line in iter(process.stdout.readline, ""):
        name, _, rest = line.partition(" ")
        said[name] = rest.strip()
        if name == "or":
            break
    return said


def all_end(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, DEADLINE)[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_serve_stops_while_it_starts(number: signal.Signals, home: Path, shop_bundle: Path, catalogue: Path) -> None:
    with started(shop_bundle, catalogue) as process:
        loading = children(process, 3)
        process.send_signal(number)
        # Nothing is introduced: it did not wait until they answered.
        assert process.communicate(timeout=DEADLINE) == ("Predictor, ranker and drift sidecar start ...\n", "")
        assert process.returncode == 0
        assert all_end(loading)


@pytest.mark.slow
def test_services_are_alone_in_their_directory_and_end_with_a_killed_parent(
    home: Path, shop_bundle: Path, catalogue: Path
) -> None:
    def refused() -> str:
        with pytest.raises(OffersError) as refusal:
            serve(str(shop_bundle), str(catalogue), 0)
        return str(refusal.value)

    with started(shop_bundle, catalogue) as process:
        said = introduction(process)
        running, logs = children(process, 4), home / "serve"
        question = (str(logs / "request.json"), said["ranker"].partition("/v1")[0])
        rank(*question)
        before = {path: path.read_bytes() for path in logs.glob("*.log")}
        assert refused().startswith(f"{logs}: other services run here, or have not ended yet; stop them, or name")
        rank(*question)
        assert {path.stem for path, text in before.items() if text} >= {"predictor", "ranker"}
        assert {path: path.read_bytes()[: len(text)] for path, text in before.items()} == before
        assert children(process, 4) == running
        os.kill(process.pid, signal.SIGKILL)
        assert all_end(running)
    with services(shop_bundle, WARRANTIES, logs, watch=SidecarOptions(sidecar_python())) as again:
        assert len(again.processes) == 3
