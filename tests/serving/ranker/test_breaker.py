"""A ranker whose predictor goes away and comes back: nobody waits for it meanwhile."""

import asyncio
from typing import Any

import httpx
import pytest

from offers.contract.contract import Contract
from offers.errors import ServiceError
from serving.protocol.kserve import PredictorConfig
from serving.ranker.ranker import Ranker
from tests.support.rankers import FALLBACK, GOOD, PREDICT, Scripted, asking, nobody, policy_of, scripted
from tests.support.warranties import WARRANTIES

TIMEOUT = 0.5


class Mute(Scripted):
    """The shop's predictor, which answers none of its calls while `speaks` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.calls = 0

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.speaks.wait()
        return await super().ModelReady(request, context)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls += 1
        await self.speaks.wait()
        return await super().ModelInfer(request, context)


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(PREDICT, json={"instances": [GOOD]})


async def fallback(client: httpx.AsyncClient) -> bool:
    answer = await ask(client)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["predictions"][0]["fallback"])


def test_a_mute_predictor_costs_one_deadline_and_is_found_again(shop_contract: Contract) -> None:
    async def run() -> None:
        predictor = Mute()

        async def gone_and_back(client: httpx.AsyncClient) -> None:
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}
            assert not await fallback(client)
            predictor.speaks.clear()
            assert await fallback(client)
            calls = predictor.calls
            assert all([await fallback(client) for _ in range(30)])
            assert predictor.calls == calls
            ready = await client.get("/v2/health/ready")
            assert (ready.status_code, ready.json()["ready"]) == (200, True)
            assert "the predictor does not answer (DEADLINE_EXCEEDED)" in ready.json()["degraded"]
            assert "offers_predictor_away 1.0" in (await client.get("/metrics")).text
            predictor.speaks.set()
            while await fallback(client):
                await asyncio.sleep(0.02)
            assert (await client.get("/v2/health/ready")).json() == {"ready": True}
            assert "offers_predictor_away 0.0" in (await client.get("/metrics")).text

        async with scripted(predictor) as port:
            await asking(shop_contract, FALLBACK, port, gone_and_back, TIMEOUT)

    asyncio.run(run())


def test_without_a_fallback_it_says_at_once_that_it_can_not(shop_contract: Contract) -> None:
    async def run() -> None:
        predictor = Mute()

        async def gone_and_back(client: httpx.AsyncClient) -> None:
            assert (await ask(client)).status_code == 200
            predictor.speaks.clear()
            assert (await ask(client)).status_code == 503
            calls = predictor.calls
            answer = await ask(client)
            assert (answer.status_code, answer.headers["retry-after"], predictor.calls) == (503, "1", calls)
            assert (await client.get("/v2/health/ready")).status_code == 503
            predictor.speaks.set()
            while (await ask(client)).status_code == 503:
                await asyncio.sleep(0.02)

        async with scripted(predictor) as port:
            await asking(shop_contract, WARRANTIES, port, gone_and_back, TIMEOUT)

    asyncio.run(run())


def test_a_ranker_that_never_had_a_predictor_is_not_ready(shop_contract: Contract) -> None:
    async def never_there(client: httpx.AsyncClient) -> None:
        assert await fallback(client)
        assert (await client.get("/v2/health/ready")).status_code == 503

    with nobody() as port:
        asyncio.run(asking(shop_contract, FALLBACK, port, never_there, TIMEOUT))


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL", "RESOURCE_EXHAUSTED"])
def test_a_failure_of_one_request_is_not_one_of_the_next(shop_contract: Contract, code: str) -> None:
    async def run() -> None:
        predictor = Scripted(code)

        async def twice(client: httpx.AsyncClient) -> None:
            assert [await fallback(client), await fallback(client)] == [True, False]

        async with scripted(predictor) as port:
            await asking(shop_contract, FALLBACK, port, twice, TIMEOUT)

    asyncio.run(run())


def test_customers_of_a_request_follow_from_the_number_of_offers(shop_contract: Contract) -> None:
    offer = "\n  - {{id: more{}, title: More, family: short, attributes: {{channel: mail}}, value: 1}}"
    many = WARRANTIES.rstrip() + "".join(map(offer.format, range(18)))
    config = PredictorConfig("127.0.0.1:1", "grpc-v2", False, TIMEOUT, 1)
    ranker = Ranker("offers", policy_of(shop_contract, many), shop_contract, config)
    assert (len(ranker.policy.offers), ranker.schema.max_customers) == (21, 952)
    with pytest.raises(ServiceError, match="21000 rows, expected at most 20000"):
        Ranker("offers", ranker.policy, shop_contract, config, 1000)
