"""The ranker follows its routing file: it switches between two requests, and only to what it has proved."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import BundleError, ServiceError
from offers.experiments.experiment import Experiment
from offers.governance.release import make
from offers.settings import Settings
from offers.store.directory import DirectoryStore
from serving.process.server import Address, Server
from serving.protocol.kserve import PredictorConfig
from serving.ranker import __main__ as ranker_main
from serving.ranker import routing
from serving.ranker.ranker import Ranker
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import RoutingFile, RoutingObject, RoutingSource, open_routing
from serving.ranker.switching import Switchboard
from tests.support.rankers import GOOD, MAX_CUSTOMERS, PREDICT, Scripted, policy_of, scripted
from tests.support.releases import DEARER, arm, release, stored
from tests.support.services import DEADLINE
from tests.support.warranties import WARRANTIES


class Bench:
    """A ranker that follows a file, and a client of it."""

    def __init__(self, client: httpx.AsyncClient, file: Path) -> None:
        self.client = client
        self.file = file

    async def catalogue(self) -> str:
        answer = await self.client.post(PREDICT, json={"instances": [GOOD]})
        assert answer.status_code == 200
        return str(answer.json()["predictions"][0]["versions"]["catalogue"])

    async def metrics(self) -> str:
        return (await self.client.get("/metrics")).text

    async def until(self, line: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while line not in await self.metrics():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def following(
    contract: Contract, first: Arm, file: Path, source: RoutingSource | None = None
) -> AsyncIterator[Bench]:
    """A ranker that follows `file`, or that begins with an arm's bundle and follows an object."""

    def build(arm: Arm) -> Ranker:
        config = PredictorConfig(arm.predictor, "grpc-v2", False, DEADLINE, 1)
        return Ranker("offers", policy_of(contract, arm.policy.read_text()), contract, config, MAX_CUSTOMERS)

    serving = None
    if source is None:
        source, serving = RoutingFile(file, seconds=0.01), Routing(arms=(first,))
        routing.write(file, serving)
    async with AsyncExitStack() as stack:
        server = Server([build(first)], grace=1)
        address = await server.start(Address("127.0.0.1", 0, 0))
        stack.push_async_callback(server.stop)
        await stack.enter_async_context(Switchboard(source, build, serving).following(server.plane))
        url = f"http://127.0.0.1:{address.http_port}"
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE))
        yield Bench(client, file)


def run(test: Callable[[int], Awaitable[None]]) -> None:
    """Run a test beside a predictor, whose port it gets."""

    async def call() -> None:
        async with scripted(Scripted()) as port:
            await test(port)

    asyncio.run(call())


def test_a_new_release_takes_over_between_two_requests(shop_contract: Contract, tmp_path: Path) -> None:
    first, second = release(tmp_path, "r1", WARRANTIES), release(tmp_path, "r2", DEARER)

    async def test(port: int) -> None:
        async with following(shop_contract, arm(first, port), tmp_path / "routing.json") as bench:
            before = await bench.catalogue()
            answers = asyncio.create_task(many(bench))
            routing.write(bench.file, Routing(arms=(arm(second, port),)))
            await bench.until('offers_release_info{arm="champion",bundle="scripted",release="r2"} 1.0')
            after = await bench.catalogue()
            assert before != after
            seen = await answers
            assert set(seen) <= {before, after}
            assert seen == sorted(seen, key=[before, after].index)
            assert 'release="r1"' not in await bench.metrics()
            document = (await bench.client.get("/openapi.json")).json()
            assert "/v2/models/offers/versions/{model_version}" in document["paths"]

    run(test)


async def many(bench: Bench) -> list[str]:
    return [await bench.catalogue() for _ in range(50)]


@pytest.mark.parametrize(
    ("changes", "propensity", "reason"),
    [
        ({"bundle": "shop-2"}, 0.25, "serves scripted, expected shop-2"),
        ({}, 0.26, "scores the golden rows of scripted differently"),
        ({"predictor": "127.0.0.1:1"}, 0.25, "the predictor does not answer"),
    ],
)
def test_what_can_not_be_proved_changes_nothing(
    shop_contract: Contract,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    propensity: float,
    reason: str,
) -> None:
    first, second = release(tmp_path, "r1", WARRANTIES), release(tmp_path, "r2", DEARER, propensity)

    async def test(port: int) -> None:
        async with following(shop_contract, arm(first, port), tmp_path / "routing.json") as bench:
            before = await bench.catalogue()
            routing.write(bench.file, Routing(arms=(arm(second, port, **changes),)))
            await bench.until("offers_routing_refused 1.0")
            assert await bench.catalogue() == before
            reasons = [getattr(record, "fields", {}).get("reason", "") for record in caplog.records]
            assert len([told for told in reasons if reason in told]) == 1
            routing.write(bench.file, Routing(arms=(arm(first, port),)))
            await bench.until("offers_routing_refused 0.0")

    run(test)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2, "arms": []}', '{"version": 1, "arms": []}', "\udc80", '{"arms": [1, 2]}']
)
def test_a_file_of_another_form_changes_nothing(shop_contract: Contract, tmp_path: Path, content: str) -> None:
    first = release(tmp_path, "r1", WARRANTIES)

    async def test(port: int) -> None:
        async with following(shop_contract, arm(first, port), tmp_path / "routing.json") as bench:
            before = await bench.catalogue()
            bench.file.write_bytes(content.encode("utf-8", "surrogateescape"))
            await bench.until("offers_routing_refused 1.0")
            assert await bench.catalogue() == before
            bench.file.unlink()
            assert await bench.catalogue() == before

    run(test)


def test_a_wrong_catalogue_changes_nothing(shop_contract: Contract, tmp_path: Path) -> None:
    first = release(tmp_path, "r1", WARRANTIES)
    second = release(tmp_path, "r2", WARRANTIES.replace("contract: shop", "contract: other"))

    async def test(port: int) -> None:
        async with following(shop_contract, arm(first, port), tmp_path / "routing.json") as bench:
            before = await bench.catalogue()
            routing.write(bench.file, Routing(arms=(arm(second, port),)))
            await bench.until("offers_routing_refused 1.0")
            assert await bench.catalogue() == before

    run(test)


def test_an_object_of_the_store_is_followed_by_a_ranker_that_began_with_a_bundle(
    shop_contract: Contract, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, first = DirectoryStore(tmp_path / "store"), release(tmp_path, "r1", WARRANTIES)
    dearer = stored(store, release(tmp_path, "r2", DEARER))
    source = RoutingObject(store, "routing/offers.json", tmp_path / "home", seconds=0.01)

    async def refused(bench: Bench, content: bytes, reason: str) -> None:
        store.write_bytes(source.key, content)
        await bench.until("offers_routing_refused 1.0")
        async with asyncio.timeout(DEADLINE):
            while not any(reason in getattr(record, "fields", {}).get("reason", "") for record in caplog.records):
                await asyncio.sleep(0.01)

    async def test(port: int) -> None:
        async with following(shop_contract, arm(first, port), tmp_path / "unused", source) as bench:
            before = await bench.catalogue()
            await bench.until("offers_routing_refused 0.0")
            promoted = Routing(arms=(arm(dearer, port),))
            source.replace(lambda present: promoted)
            await bench.until(f'offers_release_info{{arm="champion",bundle="scripted",release="{dearer.name}"}} 1.0')
            assert await bench.catalogue() != before
            after = await bench.catalogue()
            await refused(bench, b"{", "store/routing/offers.json: expected a routing, but it")
            other = promoted.arms[0].model_copy(update={"directory": tmp_path / "r1"})
            await refused(bench, Routing(arms=(other,)).written().encode(), "expected releases/NAME of the same store")
            (tmp_path / "store" / source.key).unlink()
            async with asyncio.timeout(DEADLINE):
                while "it is gone" not in str([getattr(record, "fields", "") for record in caplog.records]):
                    await asyncio.sleep(0.01)
            assert await bench.catalogue() == after

    run(test)


def test_a_release_whose_copy_was_changed_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    name = stored(store, release(tmp_path, "r1", WARRANTIES))
    source = RoutingObject(store, "routing/offers.json", tmp_path / "home")
    routed = Routing(arms=(arm(name, 1),))
    (copy,) = source.local(routed).arms
    assert copy.policy.read_text() == WARRANTIES
    copy.policy.write_text(DEARER)
    with pytest.raises(BundleError, match=r"catalogue\.yaml was changed"):
        source.local(routed)


def test_what_an_arm_needs_is_put_beside_the_object(tmp_path: Path) -> None:
    source = open_routing(f"file://{tmp_path}/store/routing/offers.json", Settings(), tmp_path / "home")
    assert isinstance(source, RoutingObject)
    store = source.store
    champion = Routing(arms=(arm(stored(store, release(tmp_path, "r1", WARRANTIES)), 1),))
    (tmp_path / "dearer.yaml").write_text(DEARER)
    member = {"name": "dearer", "share": 0.5, "catalogue": tmp_path / "dearer.yaml"}
    experiment = source.stored(Experiment.model_validate({"name": "e", "arms": [member]}))
    with pytest.raises(ServiceError, match="there is no routing; a promotion writes it"):
        source.update(lambda now: now)
    source.replace(lambda present: champion)
    source.update(lambda now: now.model_copy(update={"experiments": (experiment,)}))
    written = source.read()
    assert written is not None
    (there,) = written.experiments[0].arms
    assert there.catalogue is not None
    assert there.catalogue.parent == Path("routing/catalogues")
    (here,) = source.local(written).experiments[0].arms
    assert here.catalogue is not None
    assert here.catalogue.read_text() == DEARER


def test_of_writers_at_once_none_undoes_anothers_change(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    first = Routing(head="0", arms=(arm(tmp_path / "r1", 1),))

    def source() -> RoutingObject:
        return RoutingObject(store, "routing/offers.json", tmp_path / "home")

    def count(writer: int) -> None:
        own = source()
        for _ in range(10):
            own.update(lambda present: present.model_copy(update={"head": str(int(present.head) + 1)}))

    source().replace(lambda present: first)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert source().read() == first.model_copy(update={"head": "40"})


def test_who_is_killed_between_change_and_copy_is_completed_by_the_next(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    first, killed = (Routing(head=head, arms=(arm(tmp_path / "r1", 1),)) for head in ("1:a", "2:b"))
    RoutingObject(store, "routing/offers.json", tmp_path).replace(lambda present: first)
    store.create("routing/offers/000000002.json", killed.written().encode())
    source = RoutingObject(store, "routing/offers.json", tmp_path)
    assert source.read() == first
    source.update(lambda present: present)
    assert source.read() == killed


@pytest.mark.parametrize("address", ["s3://bucket/offers.json", "s3://bucket/routing/a/b.json", "file:///x/routing/a"])
def test_another_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="expected a file, or an object such as s3"):
        open_routing(address, Settings(), tmp_path)


def test_shares_make_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "routing.json"
    good = Routing(head="1:ab", arms=(arm(tmp_path, 1),))
    routing.write(file, good)
    assert routing.read(file) == good
    for share, sentence in ((0.5, "expected 1 in all, got 0.5"), (1.1, r"arms\.0\.share: Input should be less")):
        file.write_text(json.dumps(json.loads(good.model_dump_json()) | {"arms": [half(good, share)]}))
        with pytest.raises(ServiceError, match=sentence):
            routing.read(file)
    with pytest.raises(ServiceError, match="there is no such file"):
        routing.read(tmp_path / "absent.json")


def half(whole: Routing, share: float) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(whole.arms[0].model_dump_json())
    return fields | {"share": share}


def test_a_ranker_serves_the_catalogue_of_a_release_that_is_whole(
    shop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, shop_bundle, DEARER).path
    rankers: list[Any] = []
    monkeypatch.setattr(ranker_main.server, "run", lambda models, *_, **__: rankers.extend(models))
    monkeypatch.setattr("sys.argv", ["ranker", "--release", str(path)])
    ranker_main.main()
    assert {offer.id: offer.value for offer in rankers[0].policy.catalogue.offers}["full"] == 31
    assert rankers[0].contract == contracts.load(str(shop_bundle / "contract.yaml"))
    (path / "catalogue.yaml").write_text(WARRANTIES)
    with pytest.raises(SystemExit, match="2"):
        ranker_main.main()
    assert "catalogue.yaml was changed, added or removed: delete it, and fetch it again" in capsys.readouterr().err
