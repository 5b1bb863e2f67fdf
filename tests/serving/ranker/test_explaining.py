"""Explained answers over V1, V2 and gRPC, before a predictor in this process whose own :explain is the truth."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from offers.bundle.bundle import load
from offers.contract.contract import Contract
from offers.decisions import history
from offers.decisions.reproduction import redo
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.predictor.model import Predictor
from serving.process.server import Address, Server
from serving.protocol.kserve import GRPCInferenceServiceStub, PredictorConfig, messages
from serving.ranker.decision_log import DecisionLog
from serving.ranker.ranker import Ranker
from tests.support.decision_log import KEY
from tests.support.rankers import CROWD, INFER, PREDICT, Scripted, policy_of, scripted, someone
from tests.support.services import DEADLINE
from tests.support.warranties import WARRANTIES

DEAR = WARRANTIES.replace("cost: 1\n", "cost: 9\n")


@dataclass
class Bench:
    ranker: httpx.AsyncClient
    predictor: httpx.AsyncClient
    grpc_port: int

    async def asked(self, **more: Any) -> httpx.Response:
        return await self.ranker.post(PREDICT, json={"instances": CROWD} | more)


@asynccontextmanager
async def bench(bundle: Path, contract: Contract, log: DecisionLog | None = None) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        scorer = Server([Predictor("offers", load(bundle))], grace=1)
        there = await scorer.start(Address("127.0.0.1", 0, 0))
        stack.push_async_callback(scorer.stop)
        config = PredictorConfig(f"127.0.0.1:{there.grpc_port}", "grpc-v2", False, DEADLINE, 1)
        ranker = Server([Ranker("offers", policy_of(contract, DEAR), contract, config, decision_log=log)], grace=1)
        here = await ranker.start(Address("127.0.0.1", 0, 0))
        stack.push_async_callback(ranker.stop)
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=DEADLINE)
            )
            for port in (here.http_port, there.http_port)
        ]
        yield Bench(*clients, here.grpc_port)


def plain(prediction: dict[str, Any]) -> dict[str, Any]:
    """An answer without what an explanation adds to it, and without what differs from answer to answer."""
    offers = [
        offer | {"reasons": [word for word in offer["reasons"] if word.isupper()]} for offer in prediction["offers"]
    ]
    withheld = [{k: v for k, v in offer.items() if k != "principal_reasons"} for offer in prediction["withheld"]]
    own = {k: v for k, v in prediction.items() if k not in ("decision_id", "as_of")}
    return own | {"offers": offers, "withheld": withheld}


def told(prediction: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    first = [word for offer in prediction["offers"][:1] for word in offer["reasons"] if not word.isupper()]
    return first, [offer["principal_reasons"] for offer in prediction["withheld"]]


def test_an_explanation_names_what_the_predictors_own_explanation_names(
    shop_bundle: Path, shop_contract: Contract
) -> None:
    async def test() -> None:
        async with bench(shop_bundle, shop_contract) as services:
            usual, explained = [
                (await services.asked(**more)).json()["predictions"] for more in ({}, {"explain": True})
            ]
            assert list(map(plain, explained)) == list(map(plain, usual))
            assert not [offer for one in usual for offer in one["withheld"] if "principal_reasons" in offer]
            channels = {offer.id: offer.attributes["channel"] for offer in policy_of(shop_contract, DEAR).offers}
            for prediction, instance in zip(explained, CROWD, strict=True):
                first, withheld = told(prediction)
                assert all(1 <= len(sentences) <= 4 for sentences in withheld)
                if not prediction["offers"]:
                    assert first == []
                    continue
                row = instance["customer"] | instance["context"]
                row["channel"] = channels[prediction["offers"][0]["offer_id"]]
                answer = await services.predictor.post("/v1/models/offers:explain", json={"instances": [row]})
                moved = answer.json()["explanations"][0]["contributions"]
                most = sorted(moved, key=lambda name: -abs(moved[name]))[:2]
                assert [sentence.split()[0] for sentence in first] == most
                assert ["raises" in sentence for sentence in first] == [moved[name] > 0 for name in most]

    asyncio.run(test())


def tensors(**more: Any) -> dict[str, Any]:
    """A V2 question about one customer."""
    values = {"customer_id": "Maria"} | someone("Maria")["customer"] | {"rating": 4.5}
    kinds = {str: "BYTES", float: "FP64", int: "FP64", bool: "BOOL"}
    inputs = [
        {"name": name, "datatype": kinds[type(value)], "shape": [1], "data": [value]} for name, value in values.items()
    ]
    return {"inputs": inputs} | more


def test_v2_takes_it_as_a_parameter_by_rest_and_grpc(shop_bundle: Path, shop_contract: Contract) -> None:
    async def test() -> None:
        async with bench(shop_bundle, shop_contract) as services:
            v1 = (await services.asked(instances=[someone("Maria")], explain=True)).json()["predictions"][0]
            answer = await services.ranker.post(INFER, json=tensors(parameters={"explain": True}))
            over_rest = json.loads(answer.json()["outputs"][0]["data"][0])
            async with grpc.aio.insecure_channel(f"127.0.0.1:{services.grpc_port}") as channel:
                request = messages.ModelInferRequest(model_name="offers")
                request.parameters["explain"].bool_param = True
                fields = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "BOOL": "bool_contents"}
                for item in tensors()["inputs"]:
                    value = item["data"][0].encode() if item["datatype"] == "BYTES" else item["data"][0]
                    tensor = request.inputs.add(name=item["name"], datatype=item["datatype"], shape=[1])
                    getattr(tensor.contents, fields[item["datatype"]]).append(value)
                response = await GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=DEADLINE)
                raw = response.raw_output_contents[0][4:] if response.raw_output_contents else None
                over_grpc = json.loads(raw or response.outputs[0].contents.bytes_contents[0])
            assert told(v1) == told(over_rest) == told(over_grpc)
            assert len(told(v1)[0]) == 2
            refused = await services.ranker.post(INFER, json=tensors(parameters={"explain": "yes"}))
            assert (refused.status_code, "parameter 'explain': expected true or false" in refused.text) == (400, True)

    asyncio.run(test())


def test_what_can_not_be_explained_is_told(shop_bundle: Path, shop_contract: Contract) -> None:
    async def test() -> None:
        async with bench(shop_bundle, shop_contract) as services:
            crowd = [someone(f"c{k}") for k in range(84)]
            answer = await services.asked(instances=crowd, explain=True)
            assert answer.status_code == 413
            assert "at most 250 pairs of customers and offers to be explained, got 252" in answer.json()["error"]
            assert (await services.asked(instances=crowd)).status_code == 200
            answer = await services.asked(explain="yes")
            assert (answer.status_code, answer.json()["error"]) == (400, "'explain': expected true or false, got 'yes'")
            answer = await services.asked(foreign=1)
            assert "expected 'instances' and 'explain', got 'foreign' too" in answer.json()["error"]

    async def silent() -> None:
        async with scripted(Scripted()) as port:
            config = PredictorConfig(f"127.0.0.1:{port}", "grpc-v2", False, DEADLINE, 1)
            ranker = Ranker("offers", policy_of(shop_contract, WARRANTIES), shop_contract, config)
            asked = await ranker.preprocess({"instances": [someone("Maria")], "explain": True})
            # This predictor answers every question with propensities.
            with pytest.raises(Exception, match="NOT_CONTRIBUTIONS"):
                await ranker.predict(asked)

    asyncio.run(test())
    asyncio.run(silent())


def test_the_log_keeps_what_was_told_and_it_is_reproduced(
    shop_bundle: Path, shop_contract: Contract, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())

    async def test() -> list[Any]:
        async with bench(shop_bundle, shop_contract, DecisionLog(spool, KEY, "refuse")) as services:
            return list((await services.asked(explain=True)).json()["predictions"])

    predictions = asyncio.run(test())
    spool.seal()
    tables = DeltaTables.at(str(tmp_path / "tables"), Settings())
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    rows = {row["decision_id"]: row for row in history.read(tables).to_pylist()}
    for prediction in predictions:
        logged = json.loads(rows[prediction["decision_id"]]["answer"])
        assert told(logged) == told(prediction)
    again = redo(history.read(tables), history.kept(tables))
    assert (again.holds, again.decisions) == (True, len(CROWD))
    assert any(told(prediction)[0] for prediction in predictions)
