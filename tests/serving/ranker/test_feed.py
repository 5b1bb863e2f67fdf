import asyncio
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from cloudevents.http import from_http
from prometheus_client import REGISTRY

from offers.bundle import bundle as bundles
from offers.contract.contract import Contract
from offers.decisions.period import Period
from offers.decisions.scored import read_scored
from offers.decisions.shipping import ship
from offers.drift.selection import decoded
from offers.errors import ServiceError, StorageError
from offers.monitoring.selection import selection_of
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.ranker.feed import Feed, ScoredRows, Send, events
from serving.ranker.ranker import INLINE_CUSTOMERS
from tests.support.rankers import (
    CROWD,
    FALLBACK,
    GOOD,
    PREDICT,
    Scripted,
    asking,
    nobody,
    ranking,
    scripted,
    someone,
)
from tests.support.services import DEADLINE, Service, command, serving
from tests.support.warranties import WARRANTIES

NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)
NEVER = 1e6
COUNTERS = ("sent_rows_total", "dropped_rows_total", "failures_total")


def some(*names: str, bundle: str = "shop-1") -> ScoredRows:
    """Rows of customers with these names, whose spending is the place of the name in the alphabet."""
    spending = np.array([float(ord(name[0]) - ord("a")) for name in names])
    region = np.array(["north" if name < "m" else None for name in names], object)
    columns = {"spending": spending, "region": region, "rating": np.full(len(names), np.nan)}
    return ScoredRows(bundle, columns, spending / 100)


@dataclass
class Recorder:
    """A sink that keeps what it is sent, does what it is told to next, and lets wait for its batches."""

    script: list[str] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Send]:
        yield self.send

    async def send(self, rows: ScoredRows, dropped: int) -> None:
        act = self.script.pop(0) if self.script else "take"
        self.batches.append([chr(ord("a") + int(place)) for place in rows.columns["spending"]])
        self.dropped.append(dropped)
        self.asked.release()
        if act == "hang":
            await self.go_on.wait()
        if act == "fail":
            raise StorageError("the disk is full")
        if act == "break":
            raise ValueError("Maria Example, born 1970")


def measured(name: str) -> dict[str, float]:
    values = {key: REGISTRY.get_sample_value(f"offers_feed_{key}", {"feed": name}) for key in COUNTERS}
    return {key: value or 0.0 for key, value in values.items()}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), DEADLINE))


def test_a_batch_is_sent_as_soon_as_it_is_full() -> None:
    async def test() -> None:
        recorder = Recorder()
        async with Feed("full", recorder.sink(), batch=3, seconds=NEVER) as feed:
            feed.offer(some("a", "b"))
            feed.offer(some())
            feed.offer(some("c", "d"))
            await recorder.asked.acquire()
            assert recorder.batches == [["a", "b"]]
            feed.offer(some("e"))
            await recorder.asked.acquire()
            assert recorder.batches[1:] == [["c", "d", "e"]]

    run(test)


def test_what_is_less_than_a_batch_is_sent_in_time() -> None:
    async def test() -> None:
        recorder = Recorder()
        async with Feed("late", recorder.sink(), batch=1000, seconds=0.01) as feed:
            feed.offer(some("a"))
            await recorder.asked.acquire()
            feed.offer(some("b"))
            await recorder.asked.acquire()
        assert recorder.batches == [["a"], ["b"]]

    run(test)


def test_what_waits_at_the_end_is_sent() -> None:
    async def test() -> None:
        recorder, before = Recorder(), measured("end")
        async with Feed("end", recorder.sink(), batch=2, seconds=NEVER) as feed:
            feed.offer(some("a", "b", "c", "d", "e"))
        assert recorder.batches == [["a", "b"], ["c", "d"], ["e"]]
        assert measured("end") == before | {"sent_rows_total": before["sent_rows_total"] + 5}

    run(test)


def test_a_batch_holds_rows_of_one_bundle() -> None:
    async def test() -> None:
        recorder = Recorder()
        async with Feed("bundles", recorder.sink(), batch=10, seconds=NEVER) as feed:
            for rows in (some("a"), some("b"), some("c", bundle="shop-2"), some("d")):
                feed.offer(rows)
        assert recorder.batches == [["a", "b"], ["c"], ["d"]]

    run(test)


def test_rows_that_find_no_room_are_dropped_and_counted() -> None:
    async def test() -> None:
        recorder, before = Recorder(["hang"]), measured("room")
        async with Feed("room", recorder.sink(), batch=2, seconds=NEVER, limit=4) as feed:
            feed.offer(some("a", "b"))
            await recorder.asked.acquire()
            feed.offer(some("c", "d", "e"))
            feed.offer(some("f", "g"))
            feed.offer(some("h"))
            feed.offer(some("i"))
            assert REGISTRY.get_sample_value("offers_feed_queue_rows", {"feed": "room"}) == 4
            recorder.go_on.set()
        assert recorder.batches == [["a", "b"], ["c", "d"], ["e", "h"]]
        assert recorder.dropped == [0, 3, 3]
        assert REGISTRY.get_sample_value("offers_feed_queue_rows", {"feed": "room"}) == 0
        after = {"sent_rows_total": 6, "dropped_rows_total": 3, "failures_total": 0}
        assert {key: value - before[key] for key, value in measured("room").items()} == after

    run(test)


@pytest.mark.parametrize(("act", "reason"), [("fail", "the disk is full"), ("break", "ValueError")])
def test_a_batch_that_is_not_taken_is_dropped_and_the_next_one_sent(
    act: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        recorder, before = Recorder([act]), measured(act)
        async with Feed(act, recorder.sink(), batch=1, seconds=NEVER) as feed:
            feed.offer(some("a", "b"))
        assert recorder.batches == [["a"], ["b"]]
        assert recorder.dropped == [0, 1]
        assert {key: value - before[key] for key, value in measured(act).items()} == dict.fromkeys(COUNTERS, 1)

    with caplog.at_level("WARNING", "offers.serving"):
        run(test)
    assert [(record.message, record.fields) for record in caplog.records] == [
        ("feed failed", {"feed": act, "rows": 1, "reason": reason}),
        ("rows dropped", {"feed": act, "rows": 1}),
    ]


def test_a_sink_that_hangs_holds_up_the_end_for_the_grace_alone() -> None:
    async def test() -> None:
        recorder, before = Recorder(["hang"]), measured("grace")
        async with Feed("grace", recorder.sink(), batch=1, seconds=NEVER, grace=0.01) as feed:
            feed.offer(some("a", "b"))
            await recorder.asked.acquire()
        assert feed.dropped == 2
        assert measured("grace")["dropped_rows_total"] - before["dropped_rows_total"] == 2

    run(test)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://localhost/", "http://", "http://user:secret@localhost/", "http://localhost:port/"],
)
def test_an_address_that_takes_no_events(url: str) -> None:
    with pytest.raises(ServiceError, match="drift_url: expected http://host:port/path, without a password") as error:
        events(url)
    assert "secret" not in str(error.value)


@dataclass
class Sidecar:
    """An HTTP server that keeps the events it is sent and answers with a status, or not at all where it is None."""

    status: int | None = 202
    received: list[Any] = field(default_factory=list)
    arrived: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events"
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                headers = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.received.append(from_http(headers, body))
                self.arrived.release()
                if self.status is not None:
                    writer.write(f"HTTP/1.1 {self.status} Some\r\ncontent-length: 0\r\n\r\n".encode())
        except asyncio.IncompleteReadError:
            writer.close()


def test_an_event_is_what_the_cloudevents_library_reads() -> None:
    async def test() -> None:
        sidecar = Sidecar()
        async with (
            sidecar.listening() as url,
            Feed("event", events(url), batch=3, seconds=NEVER, limit=3) as feed,
        ):
            feed.offer(some("a", "b", "c", "d"))
            feed.offer(some("b"))
            feed.offer(some("m", "c"))
            await sidecar.arrived.acquire()
        [event] = sidecar.received
        assert (event["type"], event["subject"]) == ("offers.scored", "shop-1")
        assert event["source"].startswith("/offers/ranker/")
        assert (event["specversion"], event["datacontenttype"], len(event["id"])) == ("1.0", "application/json", 32)
        assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)
        assert event.data == {
            "bundle": "shop-1",
            "columns": {"spending": [1, 12, 2], "region": ["north", None, "north"], "rating": [None] * 3},
            "propensity": [0.01, 0.12, 0.02],
            "dropped": 4,
            "selection": "",
        }

    run(test)


def asked_beside(
    contract: Contract, catalogue: str, feed: Feed, test: Callable[[httpx.AsyncClient], Awaitable[None]]
) -> None:
    """Run a test against a ranker with a feed, and a predictor that gives every row 0.25."""

    async def both() -> None:
        async with scripted(Scripted()) as port:
            await asking(contract, catalogue, port, test, feeds=[feed])

    asyncio.run(both())


@pytest.mark.parametrize("n_customers", [1, INLINE_CUSTOMERS + 1])
def test_the_ranker_tells_of_the_pair_that_it_ranked_first(n_customers: Any, shop_contract: Contract) -> None:
    recorder = Recorder()
    told: list[ScoredRows] = []
    take = recorder.send

    async def send(rows: ScoredRows, dropped: int) -> None:
        told.append(rows)
        await take(rows, dropped)

    recorder.send = send
    channels = {"basic": "mail", "full": "phone", "free": "web"}
    nobody_yet = someone("nobody", visits=0)
    crowd = [*(CROWD if n_customers == 1 else [someone(str(n), None) for n in range(n_customers)]), nobody_yet]

    async def test(client: httpx.AsyncClient) -> None:
        predictions = (await client.post(PREDICT, json={"instances": crowd})).json()["predictions"]
        await recorder.asked.acquire()
        answered = [(asked, found) for asked, found in zip(crowd, predictions, strict=True) if found["offers"]]
        assert answered
        [rows] = told
        assert rows.bundle == "scripted"
        assert len(rows) == len(answered) < len(crowd)
        assert rows.propensity.tolist() == [0.25] * len(answered)
        assert list(rows.columns) == [column.name for column in shop_contract.inputs]
        assert rows.columns["channel"].tolist() == [channels[found["offers"][0]["offer_id"]] for _, found in answered]
        assert rows.columns["spending"].tolist() == [asked["customer"]["spending"] for asked, _ in answered]

    asked_beside(shop_contract, WARRANTIES, Feed("first", recorder.sink(), batch=1000, seconds=0.01), test)


def test_the_pair_is_the_drawn_one_where_the_catalogue_explores(shop_contract: Contract) -> None:
    recorder, told = Recorder(), list[ScoredRows]()

    async def send(rows: ScoredRows, dropped: int) -> None:
        told.append(rows)

    recorder.send = send
    catalogue = WARRANTIES.replace("{k: 2}", "{k: 1, exploration: {kind: epsilon, epsilon: 1}}")
    channels = {"basic": "mail", "full": "phone", "free": "web"}
    shown = list[str]()

    async def test(client: httpx.AsyncClient) -> None:
        crowd = [someone(str(n)) for n in range(40)]
        predictions = (await client.post(PREDICT, json={"instances": crowd})).json()["predictions"]
        shown.extend(channels[found["offers"][0]["offer_id"]] for found in predictions)

    asked_beside(shop_contract, catalogue, Feed("drawn", recorder.sink(), batch=1000, seconds=NEVER), test)
    assert len(set(shown)) > 1
    assert told[0].columns["channel"].tolist() == shown


def test_a_fallback_is_told_to_nobody(shop_contract: Contract) -> None:
    recorder = Recorder()

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"instances": [GOOD]})
        assert answer.json()["predictions"][0]["fallback"]

    with nobody() as port:
        feeds = [Feed("fallback", recorder.sink(), batch=1, seconds=NEVER)]
        asyncio.run(asking(shop_contract, FALLBACK, port, test, feeds=feeds))
    assert recorder.batches == []


@pytest.mark.parametrize(
    ("status", "limit", "grace", "tried"), [(None, 5, 0.01, 1), (500, 20, DEADLINE, 20), (307, 20, DEADLINE, 20)]
)
def test_a_sidecar_that_hangs_or_refuses_fails_no_request(
    status: int | None, limit: int, grace: Any, tried: int, shop_contract: Contract
) -> None:
    sidecar = Sidecar(status)

    async def whole() -> None:
        async with sidecar.listening() as url, scripted(Scripted()) as port:
            feed = Feed("refused", events(url), batch=1, seconds=NEVER, limit=limit, grace=grace)

            async def test(client: httpx.AsyncClient) -> None:
                for n in range(20):
                    answer = await client.post(PREDICT, json={"instances": [someone(str(n))]})
                    assert answer.status_code == 200
                    if n == 0:
                        await sidecar.arrived.acquire()

            await asking(shop_contract, WARRANTIES, port, test, feeds=[feed])
            assert (feed.dropped, len(sidecar.received)) == (20, tried)

    run(whole)


def test_a_sidecar_that_is_not_there_fails_no_request(shop_contract: Contract) -> None:
    before = measured("dead")

    async def whole() -> None:
        async with scripted(Scripted()) as port:
            with nobody() as closed:
                feed = Feed("dead", events(f"http://127.0.0.1:{closed}"), batch=1, seconds=NEVER)

                async def test(client: httpx.AsyncClient) -> None:
                    for n in range(20):
                        answer = await client.post(PREDICT, json={"instances": [someone(str(n))]})
                        assert answer.status_code == 200

                await asking(shop_contract, WARRANTIES, port, test, feeds=[feed])
                assert feed.dropped == 20

    run(whole)
    assert measured("dead")["failures_total"] - before["failures_total"] == 20


@pytest.fixture(scope="module")
def predictor(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("predictor") / "log"
    with serving("serving.predictor", log, "--bundle", shop_bundle) as predictor:
        yield predictor


def test_a_process_logs_its_rows_and_tells_the_sidecar_before_it_ends(
    predictor: Service, shop_bundle: Path, shop_contract: Contract, tmp_path: Path
) -> None:
    catalogue = tmp_path / "warranties.yaml"
    catalogue.write_text(WARRANTIES)
    spool, tables, log = tmp_path / "spool", tmp_path / "tables", tmp_path / "log"
    (tmp_path / "key").write_text(secrets.token_hex(32))
    crowd = [instance for instance in CROWD if instance["customer"]["visits"] in (3,)]

    async def whole() -> list[Any]:
        sidecar = Sidecar()
        async with sidecar.listening() as url:
            await asyncio.to_thread(ask, url)
        return sidecar.received

    def ask(url: str) -> None:
        more = ("--drift_url", url, "--spool", spool, "--pseudonym_key", tmp_path / "key")
        with ranking(predictor, shop_bundle, catalogue, log, *more) as service:
            for _ in range(3):
                answer = httpx.post(f"{service.url}{PREDICT}", json={"instances": crowd}, timeout=DEADLINE)
                assert answer.status_code == 200
                ids.extend(found["decision_id"] for found in answer.json()["predictions"])

    ids: list[str] = []
    received = asyncio.run(asyncio.wait_for(whole(), DEADLINE))
    assert not [one for one in ship(spool, DeltaTables.at(str(tables), Settings())) if one.refusal]
    rows = read_scored(str(tables), shop_contract, Settings()).frame
    # The log sorts decisions of one moment by their ids.
    assert sorted(rows["decision_id"]) == sorted(ids)
    rows = rows.set_index("decision_id").loc[ids].reset_index()
    assert set(rows["bundle"]) == {shop_bundle.name}
    names = [column.name for column in shop_contract.inputs]
    expected = bundles.load(shop_bundle).model.propensity(rows[names])
    assert rows["_propensity"].tolist() == expected.tolist()
    assert [value for event in received for value in event.data["propensity"]] == expected.tolist()
    assert {event["subject"] for event in received} == {shop_bundle.name}
    assert "customer_id" not in json.dumps([event.data for event in received])
    # The rules let customers pass who have visited, and those whose visits are not known do not.
    [selection] = {event.data["selection"] for event in received}
    reference = pd.read_parquet(shop_bundle / "reference.parquet")
    assert decoded(selection, len(reference)).tolist() == (reference["visits"] >= 1).fillna(False).tolist()
    assert selection_of(str(tables), bundles.load(shop_bundle), Period.parse("", "", ""), Settings()) == selection
    written = log.read_text("utf-8")
    assert not any(word in written for word in ("Atlantis", "north", "9000.5", "offers.scored"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--drift_url", "sidecar:8080"), "ranker: drift_url: expected http://host:port/path"),
        (("--routing", "ftp://bank/scored"), "ranker: ftp://bank/scored: expected a file, or an object such as s3://"),
    ],
)
def test_a_mistake_at_the_start_is_one_sentence(more: tuple[Any, ...], sentence: str) -> None:
    call = command("serving.ranker", "--contract", "bank-marketing", *more)
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
