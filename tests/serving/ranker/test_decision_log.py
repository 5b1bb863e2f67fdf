"""The ranker and the shipper as processes: every decision that was answered is in the table once, whoever is killed."""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest

from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.records import DECISIONS, digest_of, root_of
from offers.decisions.segment import sealed
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.protocol.kserve import GRPCInferenceServiceStub, messages
from tests.support.certificates import Authority
from tests.support.rankers import CROWD, EXPLORING, FALLBACK, PREDICT, counted, ranking, someone
from tests.support.services import DEADLINE, Service, command, serving
from tests.support.sidecar import until
from tests.support.tokens import public, token
from tests.support.warranties import WARRANTIES


@pytest.fixture(scope="module")
def predictor(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving("serving.predictor", tmp_path_factory.mktemp("predictor") / "log", "--bundle", shop_bundle) as service:
        yield service


@dataclass
class Place:
    """A directory for one log: key, spool, tables and the processes' logs."""

    directory: Path
    key: Pseudonyms = field(init=False)

    def __post_init__(self) -> None:
        self.key = Pseudonyms.at(self.directory / "key")

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    @property
    def arguments(self) -> tuple[object, ...]:
        return ("--spool", self.spool, "--pseudonym_key", self.directory / "key", "--seal_seconds", 0.2)

    def catalogue(self, text: str) -> Path:
        path = self.directory / "catalogue.yaml"
        path.write_text(text, "utf-8")
        return path

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.tables.open(DECISIONS).to_pyarrow_table().to_pylist()
        return found

    @property
    def tables(self) -> DeltaTables:
        return DeltaTables.at(str(self.directory / "tables"), Settings())

    @contextmanager
    def shipping(self) -> Iterator[subprocess.Popen[str]]:
        """A shipper; leaving the block, or killing it, ends it."""
        call = ("--spool", self.spool, "--tables", self.directory / "tables", "--seconds", 0.1, "--grace", DEADLINE)
        with (self.directory / "shipper.log").open("a") as errors:
            process = subprocess.Popen(
                command("serving.shipper", *call), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            assert process.stdout is not None
            assert orjson.loads(process.stdout.readline())["http_port"]
            yield process
            if process.poll() is None:
                process.terminate()
                assert process.wait(DEADLINE) in (0, -signal.SIGKILL), (self.directory / "shipper.log").read_text()
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def sent(prediction: dict[str, Any]) -> bytes:
    """What the log has to hold of an answer."""
    return orjson.dumps({key: value for key, value in prediction.items() if key != "customer_id"})


def test_every_kind_of_answer_is_logged_as_it_is_sent(
    predictor: Service, shop_bundle: Path, place: Place, tmp_path: Path
) -> None:
    nobody = [someone("nobody", region="Atlantis", member=False, visits=0)]
    catalogue = place.catalogue(EXPLORING)
    with place.shipping(), ranking(predictor, shop_bundle, catalogue, tmp_path / "log", *place.arguments) as ranker:
        v1 = httpx.post(f"{ranker.url}{PREDICT}", json={"instances": CROWD}, timeout=DEADLINE)
        more = httpx.post(f"{ranker.url}{PREDICT}", json={"instances": nobody}, timeout=DEADLINE)
        rpc = over_grpc(ranker.grpc_port)
        assert counted(ranker, "offers_logged_decisions_total") == len(CROWD) + 3
    answers = v1.json()["predictions"] + more.json()["predictions"] + rpc
    rows = {row["decision_id"]: row for row in place.rows()}
    assert len(rows) == len(answers) == len(place.rows())
    for answer in answers:
        row = rows[answer["decision_id"]]
        assert row["answer"].encode() == sent(answer)
        assert row["customer"] == place.key.of(answer["customer_id"])
        assert row["model"] == answer["versions"]["model"]
        assert not row["fallback"]
    assert {row["request_id"] for row in rows.values()} >= {v1.headers["x-request-id"], more.headers["x-request-id"]}


def over_grpc(port: int) -> list[dict[str, Any]]:
    """The answers about two customers, asked by gRPC."""
    texts = {"customer_id": [b"Ann", b"Bob"], "region": [b"north", b"south"]}
    numbers = {"spending": [600.0, 20.0], "visits": [3.0, 1.0], "member": [1.0, 0.0], "rating": [4.5, np.nan]}
    inputs = [{"name": name, "datatype": "BYTES", "shape": [2]} for name in texts]
    inputs += [{"name": name, "datatype": "FP64", "shape": [2]} for name in numbers]
    raw = [b"".join(len(word).to_bytes(4, "little") + word for word in words) for words in texts.values()]
    raw += [np.array(values, "<f8").tobytes() for values in numbers.values()]
    request = messages.ModelInferRequest(model_name="offers", inputs=inputs, raw_input_contents=raw)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        response = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=DEADLINE)
    contents = response.outputs[0].contents.bytes_contents
    if not contents:
        (buffer,), contents = response.raw_output_contents, []
        while buffer:
            size = int.from_bytes(buffer[:4], "little")
            contents.append(buffer[4 : 4 + size])
            buffer = buffer[4 + size :]
    return [orjson.loads(content) for content in contents]


def test_over_tls_and_by_a_token_the_caller_is_logged(shop_bundle: Path, place: Place, tmp_path: Path) -> None:
    authority, jwks = Authority(tmp_path), tmp_path / "jwks.json"
    (chain, key), ours = authority.certificate(), authority.certificate("ranker")
    jwks.write_text(json.dumps({"keys": [public()]}))
    door = ("--tls_certificate", chain, "--tls_key", key, "--tls_authorities", authority.file)
    tls = ("--predictor_authorities", authority.file, "--predictor_certificate", ours[0], "--predictor_key", ours[1])
    catalogue = place.catalogue(WARRANTIES)
    with (
        serving("serving.predictor", tmp_path / "predictor.log", "--bundle", shop_bundle, *door) as predictor,
        ranking(predictor, shop_bundle, catalogue, tmp_path / "log", *place.arguments, *tls, "--jwks", jwks) as ranker,
    ):
        headers = {"authorization": f"Bearer {token()}"}
        answer = httpx.post(f"{ranker.url}{PREDICT}", json={"instances": CROWD}, headers=headers, timeout=DEADLINE)
        assert answer.status_code == 200, answer.text
    with place.shipping():
        pass
    rows = place.rows()
    assert [row["caller"] for row in rows] == ["shop"] * len(CROWD)
    assert all(row["latency_ms"] > 0 for row in rows)
    assert {row["fallback"] for row in rows} == {False}
    assert [digest_of(row) for row in rows] == [row["digest"] for row in rows]
    assert digest_of(rows[0] | {"caller": "another"}) != rows[0]["digest"]
    assert digest_of(rows[0] | {"caller": None}) != rows[0]["digest"]


def test_fallback_answers_are_logged_too(shop_bundle: Path, place: Place, tmp_path: Path) -> None:
    gone = Service(None, 0, 9, tmp_path)  # type: ignore[arg-type]
    with ranking(gone, shop_bundle, place.catalogue(FALLBACK), tmp_path / "log", *place.arguments) as ranker:
        answers = httpx.post(f"{ranker.url}{PREDICT}", json={"instances": CROWD}, timeout=DEADLINE).json()
    with place.shipping():
        pass
    rows = {row["decision_id"]: row for row in place.rows()}
    assert len(rows) == len(CROWD)
    for answer in answers["predictions"]:
        row = rows[answer["decision_id"]]
        assert row["fallback"]
        assert row["model"] is None
        assert row["pairs"] == []
        assert row["answer"].encode() == sent(answer)


@pytest.mark.parametrize(("when_full", "status"), [("refuse", 503), ("unlogged", 200)])
def test_a_full_spool(
    when_full: str, status: int, predictor: Service, shop_bundle: Path, place: Place, tmp_path: Path
) -> None:
    limits = (*place.arguments, "--spool_limit", 1, "--spool_full", when_full)
    body = {"instances": [someone(str(k)) for k in range(50)]}
    with ranking(predictor, shop_bundle, place.catalogue(WARRANTIES), tmp_path / "log", *limits) as ranker:
        answers = [httpx.post(f"{ranker.url}{PREDICT}", json=body, timeout=DEADLINE) for _ in range(30)]
        full = [answer for answer in answers if answer.status_code != 200]
        logged = counted(ranker, "offers_logged_decisions_total")
        unlogged = counted(ranker, "offers_unlogged_decisions_total")
        assert logged + unlogged == 30 * 50
        assert 0 < logged < 30 * 50
        assert len(full) == (unlogged / 50 if status == 503 else 0)
        for answer in full:
            assert answer.status_code == status
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["error"].startswith("the decision log takes no more until its tables have caught up")
        # Once the shipper has been, there is room again.
        with place.shipping():
            until(lambda: sealed(place.spool), lambda left: not left)
            again = until(
                lambda: httpx.post(f"{ranker.url}{PREDICT}", json=body, timeout=DEADLINE),
                lambda answer: counted(ranker, "offers_logged_decisions_total") > logged,
            )
            assert again.status_code == 200
    assert len(place.rows()) == len({row["decision_id"] for row in place.rows()})


@pytest.mark.parametrize("rounds", [2, pytest.param(200, marks=pytest.mark.nightly)])
def test_whoever_is_killed_each_answered_decision_is_found_once(
    rounds: int, predictor: Service, shop_bundle: Path, place: Place, tmp_path: Path
) -> None:
    chance, answered = random.Random(rounds), set[str]()
    catalogue = place.catalogue(WARRANTIES)
    for number in range(rounds):
        victims = chance.choice([("ranker",), ("shipper",), ("ranker", "shipper")])
        killed_round(place, predictor, shop_bundle, catalogue, tmp_path / f"{number}.log", victims, chance, answered)
    with place.shipping():
        pass
    assert list(place.spool.glob("*-*")) == []
    rows = place.rows()
    ids = [row["decision_id"] for row in rows]
    assert len(answered) >= rounds
    assert answered <= set(ids)
    assert len(ids) == len(set(ids))
    assert [digest_of(row) for row in rows] == [row["digest"] for row in rows]
    ordered = sorted(rows, key=lambda row: (row["writer"], row["segment"], row["place"]))
    for _, group in itertools.groupby(ordered, key=lambda row: (row["writer"], row["segment"])):
        segment = list(group)
        assert {row["root"] for row in segment} == {root_of(row["digest"] for row in segment)}


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.nightly)])
def test_a_store_that_is_away_loses_nothing(
    seconds: float, predictor: Service, shop_bundle: Path, place: Place, tmp_path: Path
) -> None:
    """A file in the place of the tables' directory refuses each append, for so long and until one was refused."""
    blocked = place.directory / "tables"
    blocked.write_text("away")
    answered = set[str]()
    with (
        place.shipping(),
        ranking(predictor, shop_bundle, place.catalogue(WARRANTIES), tmp_path / "log", *place.arguments) as ranker,
    ):
        asker = threading.Thread(target=ask, args=(f"{ranker.url}{PREDICT}", answered))
        asker.start()
        refusals = place.directory / "shipper.log"
        end = time.monotonic() + seconds
        until(lambda: "segment not shipped" in refusals.read_text("utf-8"), bool)
        # The fault lasts: nothing can be awaited.
        time.sleep(max(0.0, end - time.monotonic()))
        blocked.unlink()
        until(lambda: blocked.is_dir() and place.tables.holds(DECISIONS), bool)
        ranker.process.terminate()
        asker.join()
    ids = [row["decision_id"] for row in place.rows()]
    assert answered <= set(ids)
    assert len(ids) == len(set(ids))
    assert len(answered) > seconds


def killed_round(
    place: Place,
    predictor: Service,
    bundle: Path,
    catalogue: Path,
    log: Path,
    victims: tuple[str, ...],
    chance: random.Random,
    answered: set[str],
) -> None:
    """Ask until the victims are killed, at a moment that chance names by the number of answers; keep what came."""
    where = ("--predictor_host", f"127.0.0.1:{predictor.grpc_port}", "--predictor_timeout", DEADLINE)
    call = ("--bundle", bundle, "--catalogue", catalogue, *where, *place.arguments, "--http_port", 0, "--grpc_port", 0)
    wanted = chance.randint(1, 60)
    with place.shipping() as shipper, log.open("w") as errors:
        ranker = subprocess.Popen(command("serving.ranker", *call), stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert ranker.stdout is not None
            url = f"http://127.0.0.1:{orjson.loads(ranker.stdout.readline())['http_port']}{PREDICT}"
            arrived = [set[str]() for _ in range(3)]
            askers = [threading.Thread(target=ask, args=(url, ids)) for ids in arrived]
            for asker in askers:
                asker.start()
            until(lambda: sum(map(len, arrived)), lambda count: count >= wanted)
            processes = {"ranker": ranker, "shipper": shipper}
            for victim in victims:
                os.kill(processes[victim].pid, signal.SIGKILL)
            ranker.kill() if "ranker" in victims else ranker.terminate()
            for asker in askers:
                asker.join()
            answered.update(*arrived)
        finally:
            ranker.kill()
            ranker.communicate()


def ask(url: str, ids: set[str]) -> None:
    """Ask again and again, and keep the decisions that were answered, until nobody answers."""
    sizes: Callable[[], int] = itertools.cycle([1, 3, 40]).__next__
    with httpx.Client(timeout=DEADLINE) as client:
        while True:
            body = {"instances": [someone(f"customer-{k}") for k in range(sizes())]}
            try:
                answer = client.post(url, json=body)
            except httpx.HTTPError:
                return
            if answer.status_code != 200:
                return
            ids.update(prediction["decision_id"] for prediction in answer.json()["predictions"])


def test_a_second_shipper_is_refused_and_a_key_without_a_spool(place: Place, shop_bundle: Path) -> None:
    with place.shipping():
        call = command("serving.shipper", "--spool", place.spool, "--tables", place.directory / "tables")
        refused = subprocess.run(call, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert refused.stderr == f"shipper: {place.spool}: another shipper works here; stop it first\n"
    call = command("serving.ranker", "--bundle", shop_bundle, "--catalogue", place.catalogue(WARRANTIES))
    for more, said in (
        (["--spool", str(place.spool)], "--spool and --pseudonym_key belong together: expected both or neither"),
        (["--spool", str(place.spool), "--pseudonym_key", str(place.directory / "no")], "there is no such file"),
    ):
        refused = subprocess.run(call + more, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
