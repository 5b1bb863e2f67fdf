"""A ranker of the shop's warranties: customers to ask it about, what it has to answer, a predictor under control."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.ranking import Ranking
from serving.process.server import Address, Server
from serving.protocol.kserve import (
    InferenceServicer,
    PredictorConfig,
    add_GRPCInferenceServiceServicer_to_server,
    messages,
)
from serving.protocol.tensor import datatype
from serving.ranker.feed import Feed
from serving.ranker.ranker import Ranker
from tests.support.services import DEADLINE, Service, serving
from tests.support.shop import SHOP
from tests.support.warranties import WARRANTIES

PREDICT, INFER = "/v1/models/offers:predict", "/v2/models/offers/infer"
CUSTOMER = {"spending": 600.0, "visits": 3, "region": "north", "member": True}
GOOD = {"customer_id": "Maria", "customer": CUSTOMER, "context": {"rating": 4.5}}
MAX_CUSTOMERS = 50
FALLBACK = WARRANTIES.replace("{k: 2}", "{k: 2, fallback: value}")
EXPLORING = WARRANTIES.replace("{k: 2}", "{k: 2, exploration: {kind: softmax, temperature: 1000}}")


def someone(customer_id: str, rating: float | None = 4.5, **customer: Any) -> dict[str, Any]:
    return {"customer_id": customer_id, "customer": CUSTOMER | customer, "context": {"rating": rating}}


CROWD = [
    someone("A"),
    someone("B", None, region="south", spending=9000.5),
    someone("C", member=False),
    someone("D", visits=0),
    someone("E", visits=99, region="south", spending=1.0),
    someone("F", region="Atlantis", rating=1.0),
]


def policy_of(contract: Contract, text: str) -> Policy:
    return Policy(catalogues.parse(text, contract), contract)


def typed(instances: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The columns of CROWD as the policy takes them, written down by hand."""

    def number(value: Any) -> float:
        return float("nan") if value is None or value == 99 else float(value)

    flat = [instance["customer"] | instance["context"] for instance in instances]
    words = {"north": "north", "south": "south", "Atlantis": None}
    columns = {
        name: np.array([number(row[name]) for row in flat]) for name in ("spending", "visits", "member", "rating")
    }
    return columns | {"region": np.array([words[row["region"]] for row in flat], object)}


def told(ranking: Ranking) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A ranking as the service has to write it."""
    shown = [
        {
            "offer_id": entry.offer.id,
            "rank": entry.rank,
            "propensity": entry.propensity,
            "value": entry.offer.value,
            "score": entry.score,
            "action_probability": entry.action_probability,
            "reasons": list(entry.reasons),
        }
        for entry in ranking.ranked
    ]
    withheld = [
        {
            "offer_id": entry.offer.id,
            "score": entry.score,
            "action_probability": entry.action_probability,
            "reasons": [reason._asdict() for reason in entry.reasons],
        }
        for entry in ranking.withheld
    ]
    return shown, withheld


class Scripted(InferenceServicer):
    """The shop's predictor, which does to each call what it is told to next; then it gives every row 0.25."""

    def __init__(self, *script: str) -> None:
        self.script, self.rows = list(script), list[int]()
        self.inputs = {column.name: datatype(column) for column in contracts.parse(SHOP).inputs}

    async def ModelReady(  # noqa: N802
        self, request: messages.ModelReadyRequest, context: grpc.aio.ServicerContext
    ) -> messages.ModelReadyResponse:
        return messages.ModelReadyResponse(ready=True)

    async def ModelMetadata(  # noqa: N802
        self, request: messages.ModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> messages.ModelMetadataResponse:
        inputs = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in self.inputs.items()]
        return messages.ModelMetadataResponse(name=request.name, versions=["scripted"], inputs=inputs)

    async def ModelInfer(  # noqa: N802
        self, request: messages.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> messages.ModelInferResponse:
        act = self.script.pop(0) if self.script else "answer"
        n_rows = request.inputs[0].shape[0]
        self.rows.append(n_rows)
        if act == "hang":
            await asyncio.Event().wait()
        if act in grpc.StatusCode.__members__:
            await context.abort(grpc.StatusCode[act], "column 'age', row 1: expected a number, got Maria")
        if act == "oversize":
            n_rows = 9 * 2**17
        values = {"short": [0.25] * (n_rows - 1), "NaN": [np.nan] * n_rows}.get(act, [0.25] * n_rows)
        output = {"name": "propensity", "datatype": "FP64", "shape": [len(values)]}
        raw = [np.array(values, "<f8").tobytes()]
        return messages.ModelInferResponse(model_version="scripted", outputs=[output], raw_output_contents=raw)


@asynccontextmanager
async def scripted(servicer: Scripted, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_GRPCInferenceServiceServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


def asking(
    contract: Contract,
    catalogue: str,
    port: int,
    test: Callable[[httpx.AsyncClient], Awaitable[None]],
    timeout: float = DEADLINE,
    feeds: Sequence[Feed] = (),
) -> Awaitable[None]:
    """Run a test against a ranker in this process, whose predictor is on `port`."""

    async def call() -> None:
        config = PredictorConfig(f"127.0.0.1:{port}", "grpc-v2", False, timeout, 1)
        ranker = Ranker("offers", policy_of(contract, catalogue), contract, config, feeds=feeds)
        server = Server([ranker], grace=DEADLINE)
        async with AsyncExitStack() as entered:
            for feed in feeds:
                await entered.enter_async_context(feed)
            bound = await server.start(Address(http_port=0, grpc_port=0))
            entered.push_async_callback(server.stop)
            url = f"http://127.0.0.1:{bound.http_port}"
            async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
                await asyncio.wait_for(test(client), DEADLINE)

    return call()


@contextmanager
def ranking(predictor: Service, bundle: Path, catalogue: Path, log: Path, *more: object) -> Iterator[Service]:
    """A ranker as a process, in front of a predictor."""
    where = ("--predictor_host", f"127.0.0.1:{predictor.grpc_port}", "--predictor_timeout", DEADLINE)
    what = ("--bundle", bundle, "--catalogue", catalogue, "--max_customers", MAX_CUSTOMERS)
    with serving("serving.ranker", log, *what, *where, *more) as service:
        yield service


@contextmanager
def nobody() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def counted(service: Service, series: str) -> float:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{series} "))
