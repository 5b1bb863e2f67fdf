"""Experiments in the ranker: who is answered by which arm, what is logged of it, and what happens without an arm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from offers.contract.contract import Contract
from offers.decisions.log import DECIDED
from offers.decisions.pseudonym import Pseudonyms
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import ServiceError
from offers.experiments.experiment import Experiment
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import PredictorConfig
from serving.protocol.rest import application
from serving.ranker import routing
from serving.ranker.decision_log import DecisionLog
from serving.ranker.ranker import Ranker
from serving.ranker.routing import Arm, Routing
from serving.ranker.routing_source import RoutingFile
from serving.ranker.switching import Switchboard
from tests.support.rankers import MAX_CUSTOMERS, PREDICT, Scripted, scripted, someone
from tests.support.releases import DEARER, arm, release
from tests.support.services import DEADLINE
from tests.support.warranties import WARRANTIES

KEY = Pseudonyms(bytes(32))
CROWD = [someone(f"customer-{k}") for k in range(8)]


def experiment(parent: Path, share: float = 0.5, **changes: Any) -> Experiment:
    (parent / "dearer.yaml").write_text(DEARER)
    one = {"name": "dearer", "share": share, "catalogue": parent / "dearer.yaml"}
    return Experiment.model_validate({"name": "e", "arms": [one | changes]})


class Bench:
    """A ranker in this process that follows a routing file, with its log."""

    def __init__(self, contract: Contract, directory: Path, port: int, logs: bool = True) -> None:
        self.contract, self.directory = contract, directory
        self.champion = arm(release(directory, "r1", WARRANTIES), port)
        self.spool = Spool(directory / "spool", "pod", SpoolLimits())
        self.log = DecisionLog(self.spool, KEY, "refuse") if logs else None
        self.plane = ServicePlane([self.build(self.champion)])
        self.file = directory / "routing.json"
        self.board = Switchboard(RoutingFile(self.file, seconds=0.01), self.build, Routing(arms=(self.champion,)))

    def build(self, one: Arm) -> Ranker:
        config = PredictorConfig(one.predictor, "grpc-v2", False, DEADLINE, 0)
        policy = Policy(catalogues.load(str(one.policy), self.contract), self.contract)
        return Ranker("offers", policy, self.contract, config, MAX_CUSTOMERS, decision_log=self.log)

    def write(self, *experiments: Experiment) -> None:
        routing.write(self.file, Routing(arms=(self.champion,), experiments=experiments))

    @property
    def serving(self) -> Routing:
        assert self.board.serving is not None
        return self.board.serving

    async def until(self, *experiments: Experiment) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.serving.experiments != experiments:
                await asyncio.sleep(0.01)

    async def served(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.serving.arms != (self.champion,):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(application(self.plane))
        async with (
            self.board.following(self.plane),
            httpx.AsyncClient(transport=transport, base_url="http://ranker", timeout=DEADLINE) as client,
        ):
            yield client

    async def versions(self, client: httpx.AsyncClient) -> dict[str, str]:
        """The catalogue that has answered each customer."""
        answer = await client.post(PREDICT, json={"instances": CROWD})
        assert answer.status_code == 200, answer.text
        told = answer.json()["predictions"]
        assert [one["customer_id"] for one in told] == [one["customer_id"] for one in CROWD]
        return {one["customer_id"]: one["versions"]["catalogue"] for one in told}

    def events(self) -> list[dict[str, Any]]:
        self.spool.seal()
        lines = b"".join(path.read_bytes() for path in sorted(self.spool.directory.rglob("*")) if path.is_file())
        events = [orjson.loads(line[line.index(b"{") :]) for line in lines.splitlines() if b"{" in line]
        return [event["data"] for event in events if event["type"] == DECIDED]


def test_customers_are_split_by_arm_and_logged_as_its_members(shop_contract: Contract, tmp_path: Path) -> None:
    async def test() -> None:
        predictor = Scripted()
        async with scripted(predictor) as port:
            bench, one = Bench(shop_contract, tmp_path, port), experiment(tmp_path)
            assigned = one.assign([KEY.of(row["customer_id"]) for row in CROWD])
            assert 0 < (assigned == 0).sum() < len(CROWD)
            async with bench.following() as client:
                plain = await bench.versions(client)
                bench.write(one)
                await bench.until(one)
                calls = len(predictor.rows)
                split = await bench.versions(client)
                assert len(predictor.rows) == calls + 2
                for (customer, version), place in zip(split.items(), assigned, strict=True):
                    assert (version == plain[customer]) == (place == -1)
                bench.write()
                await bench.until()
                assert await bench.versions(client) == plain
            first, *parts, last = bench.events()
            assert first["arms"] is last["arms"] is None
            by_customer = {
                customer: (part["experiment"], name, part["catalogue"])
                for part in parts
                for customer, name in zip(part["customers"], part["arms"], strict=True)
            }
            for row, place in zip(CROWD, assigned, strict=True):
                membership = by_customer[KEY.of(row["customer_id"])]
                assert membership == ("e", one.arm_name(place), split[row["customer_id"]])

    asyncio.run(test())


def test_what_serves_answers_for_an_arm_that_is_away(shop_contract: Contract, tmp_path: Path) -> None:
    async def test() -> None:
        other = Scripted()
        async with scripted(Scripted()) as port, scripted(other) as its_port:
            model = {"predictor": f"127.0.0.1:{its_port}", "bundle": "scripted"}
            one = experiment(tmp_path, 1.0, directory=release(tmp_path, "r2", DEARER), **model)
            bench = Bench(shop_contract, tmp_path, port)
            async with bench.following() as client:
                plain = await bench.versions(client)
                bench.write(one)
                await bench.until(one)
                assert set((await bench.versions(client)).values()).isdisjoint(plain.values())
                other.script = ["UNAVAILABLE"]
                assert await bench.versions(client) == plain
            part = bench.events()[-1]
            assert (part["experiment"], set(part["arms"])) == ("e", {"dearer"})

    asyncio.run(test())


def test_a_shadow_is_counted_and_answers_nobody(shop_contract: Contract, tmp_path: Path) -> None:
    async def test() -> None:
        other = Scripted()
        async with scripted(Scripted()) as port, scripted(other) as its_port:
            model = {"predictor": f"127.0.0.1:{its_port}", "bundle": "scripted"}
            one = experiment(tmp_path, 1.0, directory=release(tmp_path, "r2", DEARER), shadow=True, **model)
            assert one.shares == {"control": 1}
            bench = Bench(shop_contract, tmp_path, port)
            async with bench.following() as client:
                plain = await bench.versions(client)
                bench.write(one)
                await bench.until(one)
                for script, first in (([], "same"), (["UNAVAILABLE"], "away")):
                    other.script = script
                    line = f'offers_shadow_rows_total{{arm="dearer",experiment="e",first="{first}"}}'
                    before = await counted(client, line)
                    assert await bench.versions(client) == plain
                    async with asyncio.timeout(DEADLINE):
                        while await counted(client, line) < before + len(CROWD):
                            await asyncio.sleep(0.01)
            assert {name for part in bench.events()[1:] for name in part["arms"]} == {"control"}

    asyncio.run(test())


async def counted(client: httpx.AsyncClient, series: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(series))


@pytest.mark.parametrize(
    ("logs", "changes"), [(False, {}), (True, {"catalogue": "absent.yaml"}), (True, {"predictor": "127.0.0.1:1"})]
)
def test_an_experiment_that_can_not_begin_changes_nothing(
    shop_contract: Contract, tmp_path: Path, logs: bool, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with scripted(Scripted()) as port:
            bench = Bench(shop_contract, tmp_path, port, logs)
            if "predictor" in changes:
                changes.update(bundle="scripted", directory=bench.champion.directory)
            async with bench.following() as client:
                plain = await bench.versions(client)
                bench.write(experiment(tmp_path, **changes))
                async with asyncio.timeout(DEADLINE):
                    while "routing refused" not in caplog.text:
                        await asyncio.sleep(0.01)
                assert "offers_routing_refused 1.0" in (await client.get("/metrics")).text
                assert await bench.versions(client) == plain

    asyncio.run(test())


def test_a_promotion_keeps_experiments_and_waits_for_none(shop_contract: Contract, tmp_path: Path) -> None:
    async def test() -> None:
        other = Scripted()
        async with scripted(Scripted()) as port:
            bench, one = Bench(shop_contract, tmp_path, port), experiment(tmp_path)
            async with bench.following() as client:
                bench.write(one)
                await bench.until(one)
                before = await bench.versions(client)
                assert len(set(before.values())) == 2
                promoted = WARRANTIES.replace("value: 5\n", "value: 6\n")
                bench.champion = arm(release(tmp_path, "r3", promoted), port)
                bench.write(one)
                await bench.served()
                after = await bench.versions(client)
                assert bench.serving.experiments == (one,)
                dearer = {name for name in before if before[name] == after[name]}
                assigned = one.assign([KEY.of(row["customer_id"]) for row in CROWD])
                assert dearer == {row["customer_id"] for row, place in zip(CROWD, assigned, strict=True) if place == 0}
                async with scripted(other) as its_port:
                    model = {"predictor": f"127.0.0.1:{its_port}", "bundle": "scripted"}
                    two = experiment(tmp_path, directory=release(tmp_path, "r2", DEARER), **model)
                    bench.write(two)
                    await bench.until(two)
                bench.champion = arm(release(tmp_path, "r4", WARRANTIES), port)
                bench.write(two)
                await bench.served()
                assert bench.serving.experiments == ()
                assert len(set((await bench.versions(client)).values())) == 1

    asyncio.run(test())


def test_a_file_with_shares_beyond_the_whole_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "routing.json"
    routing.write(file, Routing(arms=(arm(tmp_path, 1),), experiments=(experiment(tmp_path),)))
    assert routing.read(file).experiments[0].arms[0].share == 0.5
    file.write_text(file.read_text().replace('"share": 0.5', '"share": 1.1'))
    with pytest.raises(ServiceError, match=r"experiments\.0\.arms\.0\.share"):
        routing.read(file)
