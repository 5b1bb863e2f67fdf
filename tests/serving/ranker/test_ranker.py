import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import RequestError, ServiceError
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from serving.process.server import Address, Server
from serving.protocol import rest
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import GRPCInferenceServiceStub, PredictorConfig, messages
from serving.ranker.__main__ import main
from serving.ranker.predictor_client import PairScores
from serving.ranker.question import QuestionSchema, example
from serving.ranker.ranker import INLINE_CUSTOMERS, Ranker
from tests.support.rankers import (
    CROWD,
    CUSTOMER,
    EXPLORING,
    FALLBACK,
    GOOD,
    MAX_CUSTOMERS,
    PREDICT,
    Scripted,
    asking,
    counted,
    nobody,
    policy_of,
    ranking,
    scripted,
    someone,
    told,
    typed,
)
from tests.support.runs import offers
from tests.support.services import DEADLINE, Service, serving
from tests.support.warranties import WARRANTIES


@pytest.fixture(scope="module")
def predictor(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(
        "serving.predictor", tmp_path_factory.mktemp("predictor") / "log", "--bundle", shop_bundle
    ) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "warranties.yaml"
    path.write_text(WARRANTIES)
    return path


@pytest.fixture(scope="module")
def service(
    predictor: Service, catalogue: Path, shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with ranking(predictor, shop_bundle, catalogue, tmp_path_factory.mktemp("ranker") / "log") as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=DEADLINE) as client:
        yield client


@pytest.fixture
def policy(shop_contract: Contract) -> Policy:
    return policy_of(shop_contract, WARRANTIES)


def ranked(client: httpx.Client, *instances: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(PREDICT, json={"instances": instances})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def refused(answer: httpx.Response, sentence: str, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(sentence)


def test_the_answer_is_the_policys_on_the_bundles_propensities(
    client: httpx.Client, shop_bundle: Path, policy: Policy
) -> None:
    predictions = ranked(client, *CROWD)
    pairs = policy.expand(typed(CROWD))
    propensity = bundles.load(shop_bundle).model.propensity(pairs.columns)
    expected = [told(ranking) for ranking in policy.arbitrate(pairs, propensity)]
    assert [(answer["offers"], answer["withheld"]) for answer in predictions] == expected
    sent = [offer["propensity"] for answer in predictions for offer in answer["offers"]]
    assert len(sent) == 8
    assert set(sent) <= set(propensity.tolist())
    assert [answer["customer_id"] for answer in predictions] == [instance["customer_id"] for instance in CROWD]
    assert len({answer["decision_id"] for answer in predictions}) == len(CROWD)


def test_versions_stand_in_every_answer(client: httpx.Client, shop_bundle: Path, policy: Policy) -> None:
    catalogue = policy.catalogue
    for answer in ranked(client, *CROWD):
        assert answer["versions"] == {
            "model": shop_bundle.name,
            "policy": catalogue.policy.version,
            "catalogue": f"warranties-{catalogue.version}",
        }
        assert answer["fallback"] is False
    described = client.get("/v2/models/offers").json()
    assert (described["platform"], described["versions"]) == ("offers_ranker", [f"warranties-{catalogue.version}"])


def test_withheld_offers_say_why(client: httpx.Client) -> None:
    [answer] = ranked(client, someone("Z", visits=0, region="south", spending=10.0, member=False))
    assert answer["offers"] == []
    codes = {offer["offer_id"]: [why["code"] for why in offer["reasons"]] for offer in answer["withheld"]}
    assert codes == {
        "full": ["NO_CUSTOMER_YET", "FAR_AWAY"],
        "basic": ["NO_CUSTOMER_YET"],
        "free": ["NO_CUSTOMER_YET", "NO_MEMBER"],
    }


INFER_CALLS = 'offers_requests_total{route="/inference.GRPCInferenceService/ModelInfer",status="OK"}'


@pytest.mark.parametrize("n_customers", [1, INLINE_CUSTOMERS, INLINE_CUSTOMERS + 1])
def test_one_predictor_call_per_request(n_customers: Any, client: httpx.Client, predictor: Service) -> None:
    calls, rows = counted(predictor, INFER_CALLS), counted(predictor, 'offers_rows_total{model="offers"}')
    answers = ranked(client, *(someone(str(n)) for n in range(n_customers)))
    assert counted(predictor, INFER_CALLS) - calls == 1
    assert counted(predictor, 'offers_rows_total{model="offers"}') - rows == 3 * n_customers
    assert len({json.dumps(answer["offers"]) for answer in answers}) == 1


def test_no_eligible_offer_needs_no_predictor(client: httpx.Client, predictor: Service) -> None:
    calls = counted(predictor, INFER_CALLS)
    [answer] = ranked(client, someone("Z", visits=0))
    assert counted(predictor, INFER_CALLS) == calls
    assert (answer["offers"], answer["versions"]["model"]) == ([], None)


def test_k_and_offers_are_each_customers_own(client: httpx.Client) -> None:
    one, few, default, first, every = ranked(
        client,
        GOOD | {"k": 1},
        someone("B") | {"offers": ["free", "basic"]},
        someone("C") | {"k": None},
        someone("D") | {"k": 1.0},
        someone("E") | {"k": 1e300},
    )
    assert [offer["rank"] for offer in one["offers"]] == [offer["rank"] for offer in first["offers"]] == [1]
    assert len(every["offers"]) == len(ranked(client, GOOD | {"k": 99})[0]["offers"])
    assert len(default["offers"]) == 2
    assert {offer["offer_id"] for offer in few["offers"] + few["withheld"]} == {"free", "basic"}


def test_as_of_is_answered_and_now_by_default(client: httpx.Client) -> None:
    given, now = ranked(client, GOOD | {"as_of": "2024-02-29T12:00:00+01:00"}, someone("B"))
    assert given["as_of"] == "2024-02-29T12:00:00+01:00"
    assert now["as_of"].endswith("+00:00")


def test_charset_in_the_content_type(client: httpx.Client) -> None:
    body = json.dumps({"instances": [GOOD]})
    answer = client.post(PREDICT, content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert answer.status_code == 200


def changed(part: str, **values: Any) -> dict[str, Any]:
    return GOOD | {part: GOOD[part] | values}


def without(key: str, part: str = "") -> dict[str, Any]:
    kept = {name: value for name, value in (GOOD[part] if part else GOOD).items() if name != key}
    return GOOD | {part: kept} if part else kept


BAD_INSTANCES = {
    "no object": (3, "'instances', row 1: expected an object, got 3"),
    "no customer_id": (without("customer_id"), "field 'customer_id', row 1: expected text of 1 to 128 printable"),
    "customer_id of another type": (GOOD | {"customer_id": 7}, "field 'customer_id', row 1: expected text of 1 to 128"),
    "no customer": (without("customer"), "field 'customer', row 1: expected an object with a value per column, but it"),
    "no context": (without("context"), "field 'context', row 1: expected an object with a value per column, but it is"),
    "customer as a list": (
        GOOD | {"customer": [1]},
        "field 'customer', row 1: expected an object with a value per col",
    ),
    "unknown field": (GOOD | {"name": "x"}, "field 'name', row 1: not a field of an instance; expected customer_id, "),
    "unknown column": (changed("customer", income=3), "column 'income', row 1: not an input of this model; expected"),
    "column of the context": (changed("customer", rating=3), "column 'rating', row 1: not an input of this model"),
    "column that the offer sets": (changed("customer", channel="web"), "column 'channel', row 1: not an input of"),
    "missing column": (without("visits", "customer"), "column 'visits', row 1: expected a value, but it is missing"),
    "wrong type": (changed("customer", spending="12"), "column 'spending', row 1: expected a number, got '12'"),
    "out of range": (changed("customer", spending=-1), "column 'spending', row 1: expected at least 0, got -1"),
    "null": (
        changed("customer", member=None),
        "column 'member', row 1: expected true, false, yes, no, 0 or 1, got null",
    ),
    "NaN": (changed("customer", spending=float("nan")), "column 'spending', row 1: expected a number, got NaN"),
    "context out of range": (changed("context", rating=1e300), "column 'rating', row 1: expected at most 3.40282e+38"),
    "k of 0": (GOOD | {"k": 0}, "field 'k', row 1: expected a whole number of at least 1, got 0"),
    "k of 1.5": (GOOD | {"k": 1.5}, "field 'k', row 1: expected a whole number of at least 1, got 1.5"),
    "k of 0.0": (GOOD | {"k": 0.0}, "field 'k', row 1: expected a whole number of at least 1, got 0.0"),
    "k of NaN": (GOOD | {"k": float("nan")}, "field 'k', row 1: expected a whole number of at least 1, got NaN"),
    "k of infinity": (GOOD | {"k": float("inf")}, "field 'k', row 1: expected a whole number of at least 1, got Inf"),
    "k of true": (GOOD | {"k": True}, "field 'k', row 1: expected a whole number of at least 1, got true"),
    "unknown offer": (GOOD | {"offers": ["full", "gold"]}, "field 'offers', row 1: expected of basic, free, full, got"),
    "no offers": (
        GOOD | {"offers": []},
        "field 'offers', row 1: expected a list of ids of the catalogue, one at least, got an empty list",
    ),
    "an offer as a number": (
        GOOD | {"offers": ["full", 5]},
        "field 'offers', row 1: expected of basic, free, full, got 5",
    ),
    "an offer as a list": (GOOD | {"offers": [[]]}, "field 'offers', row 1: expected of basic, free, full, got a list"),
    "offers as text": (
        GOOD | {"offers": "full"},
        "field 'offers', row 1: expected a list of ids of the catalogue, one",
    ),
    "as_of that no answer could hold": (
        changed("context", rating=float("nan")) | {"as_of": "2024-01-01\ud80012:00"},
        "the body: expected JSON in UTF-8",
    ),
    "customer_id that no answer could hold": (
        changed("context", rating=float("nan")) | {"customer_id": "\ud800"},
        "the body: expected JSON in UTF-8",
    ),
    "as_of of another form": (GOOD | {"as_of": "soon"}, "field 'as_of', row 1: expected a date or a time as ISO 8601"),
}


@pytest.mark.parametrize("case", BAD_INSTANCES)
def test_a_malformed_instance(case: Any, client: httpx.Client) -> None:
    instance, sentence = BAD_INSTANCES[case]
    refused(client.post(PREDICT, content=json.dumps({"instances": [instance]})), sentence)


BAD_BODIES = {
    "not JSON": ("{", "the body: expected JSON in UTF-8, got 1 bytes that are not"),
    "a list": ("[]", "the body: expected a JSON object, got a list"),
    "no instances": ("{}", "the body: expected a list of objects as 'instances', but it is missing"),
    "instances of another kind": (
        '{"instances": {}}',
        "'instances': expected a list of objects, got an object",
    ),
    "empty instances": ('{"instances": []}', "'instances': expected 1 to 50 customers in a request, got none"),
    "something else": ('{"instances": [], "k": 3}', "the body: expected 'instances' and 'explain', got 'k' too"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_malformed_body(case: Any, client: httpx.Client) -> None:
    body, sentence = BAD_BODIES[case]
    refused(client.post(PREDICT, content=body), sentence)


def test_a_category_that_the_contract_rejects(shop_yaml: str) -> None:
    strict = contracts.parse(shop_yaml.replace(", unknown: missing", ""))
    schema = QuestionSchema(policy_of(strict, WARRANTIES), strict, 5)
    with pytest.raises(RequestError, match="column 'region', row 1: expected one of north, south, got 'Atlantis'"):
        schema.read({"instances": [changed("customer", region="Atlantis")]})


def test_customers_who_stand_twice(client: httpx.Client) -> None:
    answer = client.post(PREDICT, json={"instances": [GOOD, someone("B"), GOOD]})
    refused(answer, "field 'customer_id', row 3: expected each customer once, got the one of row 1")


def test_too_many_customers(client: httpx.Client) -> None:
    crowd = [someone(str(n)) for n in range(MAX_CUSTOMERS + 1)]
    answer = client.post(PREDICT, json={"instances": crowd})
    refused(answer, "'instances': expected 1 to 50 customers in a request, got 51", 413)


def test_other_models_are_refused(client: httpx.Client) -> None:
    refused(client.post("/v1/models/other:predict", json={"instances": [GOOD]}), "Model with name 'other'", 404)


def test_the_ranker_explains_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/models/offers:explain", json={"instances": [GOOD]})
    refused(answer, "model 'offers' explains nothing: ask the predictor's :explain", 404)
    assert not any("explain" in path for path in client.get("/openapi.json").json()["paths"])


def test_a_large_limit_that_the_predictor_would_refuse(policy: Policy, shop_contract: Contract) -> None:
    with pytest.raises(ServiceError, match="7000 customers and 3 offers make 21000 rows, expected at most 20000"):
        Ranker("offers", policy, shop_contract, PredictorConfig("127.0.0.1:1", "grpc-v2"), 7000)


def test_21_offers_are_served_to_as_many_customers_as_the_predictor_takes() -> None:
    contract = contracts.load("bank-marketing")
    path = Path(__file__).parents[2] / "offers" / "policy" / "cases" / "catalogue-21-offers.yaml"
    policy = Policy(catalogues.load(str(path), contract), contract)
    ranker = Ranker("offers", policy, contract, PredictorConfig("127.0.0.1:1", "grpc-v2"))
    assert ranker.schema.max_customers == 20_000 // 21


def test_kserves_own_client(service: Service) -> None:
    from kserve import InferenceRESTClient, RESTConfig

    async def ask() -> dict[str, Any]:
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            assert await client.is_model_ready(service.url, "offers")
            return await client.infer(service.url, data={"instances": [GOOD]}, model_name="offers")

    [answer] = asyncio.run(ask())["predictions"]
    assert answer["offers"][0]["offer_id"] == "full"


def test_logs_and_metrics_name_the_request_and_the_decision_and_nobody(service: Service, client: httpx.Client) -> None:
    rows = counted(service, 'offers_rows_total{model="offers"}')
    value = counted(service, 'offers_expected_value_eur_total{arm="none"}')
    answer = client.post(PREDICT, json={"instances": [GOOD]}, headers={"x-request-id": "of-the-log"})
    first = answer.json()["predictions"][0]["offers"][0]
    earned = counted(service, 'offers_expected_value_eur_total{arm="none"}') - value
    assert earned == pytest.approx(first["propensity"] * first["value"])
    assert counted(service, f'offers_first_places_total{{arm="none",offer="{first["offer_id"]}"}}') >= 1
    client.post(PREDICT, json={"instances": [changed("customer", region="Maria", spending=-123456.5)]})
    [line] = [line for line in service.lines() if line["event"] == "decisions" and line["request_id"] == "of-the-log"]
    assert line["decision_ids"] == [answer.json()["predictions"][0]["decision_id"]]
    assert (line["pairs"], line["fallback"]) == (3, False)
    log = service.log.read_text("utf-8")
    assert not any(word in log for word in ("Maria", "north", "123456"))
    assert counted(service, 'offers_rows_total{model="offers"}') - rows == 1


@pytest.fixture
def closed_port() -> Iterator[int]:
    with nobody() as port:
        yield port


def test_without_predictor_and_fallback_try_later(shop_contract: Contract, closed_port: int) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"instances": [GOOD]})
        refused(answer, "the predictor does not answer (UNAVAILABLE): try again in 1 s", 503)
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/v2/health/ready")).status_code == 503
        sentence = "the predictor does not answer (UNAVAILABLE): try again in 1 s"
        refused(await client.get("/v2/models/offers/ready"), sentence, 503)
        assert (await client.get("/v2/health/live")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert 'offers_predictor_failures_total{code="UNAVAILABLE"}' in metrics

    asyncio.run(asking(shop_contract, WARRANTIES, closed_port, test, DEADLINE))


def test_without_predictor_the_declared_fallback_ranks_by_value(shop_contract: Contract, closed_port: int) -> None:
    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"instances": CROWD})
        assert answer.status_code == 200
        policy = policy_of(shop_contract, FALLBACK)
        expected = [told(ranking) for ranking in policy.by_value(policy.expand(typed(CROWD)))]
        predictions = answer.json()["predictions"]
        assert [(found["offers"], found["withheld"]) for found in predictions] == expected
        assert all(found["fallback"] and found["versions"]["model"] is None for found in predictions)
        assert [offer["propensity"] for offer in predictions[0]["offers"]] == [None, None]
        assert [offer["offer_id"] for offer in predictions[0]["offers"]] == ["full", "basic"]

    asyncio.run(asking(shop_contract, FALLBACK, closed_port, test, DEADLINE))


@pytest.mark.parametrize(
    ("script", "code", "calls", "timeout"),
    [
        (["UNAVAILABLE", "UNAVAILABLE"], "UNAVAILABLE", 2, DEADLINE),
        (["INVALID_ARGUMENT"], "INVALID_ARGUMENT", 1, DEADLINE),
        (["hang"], "DEADLINE_EXCEEDED", 1, 1.0),
        (["short"], "NOT_A_PREDICTORS_ANSWER", 1, DEADLINE),
        (["NaN"], "NOT_PROPENSITIES", 1, DEADLINE),
        (["oversize"], "RESOURCE_EXHAUSTED", 1, DEADLINE),
    ],
)
def test_a_predictor_that_fails(
    script: list[Any], code: str, calls: int, timeout: Any, shop_contract: Contract
) -> None:
    servicer = Scripted(*script)

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"instances": [GOOD]})
        refused(answer, f"the predictor does not answer ({code}): try again", 503)
        assert "Maria" not in answer.text
        assert servicer.rows == [3] * calls

    async def both() -> None:
        async with scripted(servicer) as port:
            await asking(shop_contract, WARRANTIES, port, test, timeout)

    asyncio.run(both())


def test_a_broken_connection_is_tried_once_more(shop_contract: Contract) -> None:
    servicer = Scripted("UNAVAILABLE")

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"instances": [GOOD]})
        assert answer.json()["predictions"][0]["versions"]["model"] == "scripted"
        assert servicer.rows == [3, 3]

    async def both() -> None:
        async with scripted(servicer) as port:
            await asking(shop_contract, WARRANTIES, port, test, DEADLINE)

    asyncio.run(both())


def test_a_predictor_that_comes_back_is_found_again(shop_contract: Contract) -> None:
    async def whole() -> None:
        first = scripted(Scripted())
        port = await first.__aenter__()

        async def there_away_and_back(client: httpx.AsyncClient) -> None:
            async def status() -> int:
                return (await client.post(PREDICT, json={"instances": [GOOD]})).status_code

            assert await status() == 200
            await first.__aexit__(None, None, None)
            assert await status() == 503
            async with scripted(Scripted(), port):
                while (found := await status()) != 200:
                    assert found == 503
                assert (await client.get("/v2/health/ready")).status_code == 200

        await asking(shop_contract, WARRANTIES, port, there_away_and_back, DEADLINE)

    asyncio.run(whole())


OTHERS = {
    "a column less": ({"rating": None}, "where 'rating' is no column; contract shop has FP64"),
    "another datatype": ({"channel": "INT64"}, "where 'channel' is INT64; contract shop has BYTES"),
    "a column more": ({"income": "FP64"}, "where 'income' is FP64; contract shop has no column"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_predictor_of_another_contract(case: Any, shop_contract: Contract, caplog: pytest.LogCaptureFixture) -> None:
    changes, difference = OTHERS[case]
    servicer = Scripted()
    own = dict(servicer.inputs)
    sentence = f"the predictor serves scripted, {difference}: give both services the same bundle"

    async def test(client: httpx.AsyncClient) -> None:
        async def statuses() -> set[int]:
            paths = ("/v2/health/ready", "/v2/models/offers/ready", "/v1/models/offers")
            answers = [await client.get(path) for path in paths]
            assert {answer.json().get("error") for answer in answers} == {answers[0].json().get("error")}
            return {answer.status_code for answer in answers}

        assert await statuses() == {200}
        servicer.inputs = {name: kind for name, kind in (own | changes).items() if kind}
        assert await statuses() == {503}
        refused(await client.get("/v2/health/ready"), sentence, 503)
        assert (await client.get("/v2/health/live")).status_code == 200
        servicer.inputs = own
        assert await statuses() == {200}

    async def both() -> None:
        async with scripted(servicer) as port:
            await asking(shop_contract, WARRANTIES, port, test)

    with caplog.at_level("WARNING", "offers.serving"):
        asyncio.run(both())
    assert [record.fields for record in caplog.records if record.message == "foreign predictor"] == [
        {"reason": sentence}
    ]


def test_grpc_says_not_ready_where_rest_says_why(shop_contract: Contract) -> None:
    servicer = Scripted()
    servicer.inputs["income"] = "FP64"

    async def both() -> None:
        async with scripted(servicer) as port:
            config = PredictorConfig(f"127.0.0.1:{port}", "grpc-v2", False, DEADLINE, 1)
            server = Server([Ranker("offers", policy_of(shop_contract, WARRANTIES), shop_contract, config)])
            bound = await server.start(Address(http_port=0, grpc_port=0))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{bound.grpc_port}") as channel:
                stub = GRPCInferenceServiceStub(channel)
                assert not (await stub.ServerReady(messages.ServerReadyRequest())).ready
                assert not (await stub.ModelReady(messages.ModelReadyRequest(name="offers"))).ready
                del servicer.inputs["income"]
                assert (await stub.ServerReady(messages.ServerReadyRequest())).ready
            await server.stop()

    asyncio.run(asyncio.wait_for(both(), DEADLINE))


def test_exploration_can_be_replayed_from_the_answer(shop_contract: Contract) -> None:
    crowd = [someone(str(n)) for n in range(40)]

    async def test(client: httpx.AsyncClient) -> None:
        predictions = (await client.post(PREDICT, json={"instances": crowd})).json()["predictions"]
        policy = policy_of(shop_contract, EXPLORING)
        pairs = policy.expand(typed(crowd))
        keys = [answer["decision_id"] for answer in predictions]
        expected = [told(ranking) for ranking in policy.arbitrate(pairs, np.full(len(pairs), 0.25), None, keys)]
        assert [(answer["offers"], answer["withheld"]) for answer in predictions] == expected
        for answer in predictions:
            probabilities = [offer["action_probability"] for offer in answer["offers"] + answer["withheld"]]
            assert sum(probabilities) == pytest.approx(1)
        assert len({answer["offers"][0]["offer_id"] for answer in predictions}) > 1

    async def both() -> None:
        async with scripted(Scripted()) as port:
            await asking(shop_contract, EXPLORING, port, test, DEADLINE)

    asyncio.run(both())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
NESTED = st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS)
JSON = SCALARS | NESTED | st.lists(NESTED, max_size=2)
VALUES = {
    "customer_id": st.just("A") | st.text(max_size=4) | JSON,
    "customer": st.just(CUSTOMER) | st.fixed_dictionaries(dict.fromkeys(CUSTOMER, SCALARS)) | JSON,
    "context": st.just({"rating": None}) | st.fixed_dictionaries({"rating": SCALARS}) | JSON,
}
MORE = {
    "offers": st.lists(st.sampled_from(["full", "basic", "gold"]), max_size=3) | JSON,
    "k": st.integers() | JSON,
    "as_of": st.just("2024-01-01") | JSON,
    "other": JSON,
}
REQUEST = st.fixed_dictionaries(
    {"instances": st.lists(st.fixed_dictionaries(VALUES, optional=MORE), max_size=3) | JSON}
)


@pytest.fixture(scope="module")
def application(shop_contract: Contract) -> ASGIApp:
    async def score(columns: Mapping[str, np.ndarray], *_: object) -> PairScores:
        return PairScores(np.full(len(columns["visits"]), 0.25), "none")

    config = PredictorConfig("127.0.0.1:1", "grpc-v2")
    ranker = Ranker("offers", policy_of(shop_contract, WARRANTIES), shop_contract, config)
    ranker.predictor = SimpleNamespace(score=score, config=config)
    return rest.application(ServicePlane([ranker]))


@given(body=st.binary(max_size=30) | st.builds(json.dumps, REQUEST | JSON).map(str.encode))
def test_no_body_is_a_fault_of_ours(body: Any, application: ASGIApp) -> None:
    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            return await client.post(PREDICT, content=body)

    answer = asyncio.run(post())
    assert answer.status_code in (200, 400)
    assert list(answer.json()) == (["predictions"] if answer.status_code == 200 else ["error"])


@pytest.mark.parametrize("name", contracts.shipped())
def test_the_example_of_a_shipped_contract_is_a_good_request(name: Any) -> None:
    contract = contracts.load(name)
    policy = Policy(catalogues.load(name, contract), contract)
    question = QuestionSchema(policy, contract, 1).read(example(contract))
    assert len(question.pairs) > 0


SHIPPED = ["--contract", "bank-marketing"]
TIMEOUT = "argument --predictor_timeout: expected more than 0 and at most 600 seconds"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--contract", "bank-marketing", "--catalogue", "nowhere"], "ranker: catalogue 'nowhere': expected one of"),
        (["--bundle", "nowhere"], "ranker: contract nowhere/contract.yaml: can't be read"),
        ([], "ranker: expected --release, --bundle, --contract or --routing"),
        (
            [*SHIPPED, "--max_customers", "0"],
            "ranker: argument --max_customers: expected a whole number from 1 to 20000",
        ),
        ([*SHIPPED, "--predictor_timeout", "-1"], f"ranker: {TIMEOUT}, got '-1'"),
        ([*SHIPPED, "--predictor_timeout", "0"], f"ranker: {TIMEOUT}, got '0'"),
        ([*SHIPPED, "--predictor_timeout", "nan"], f"ranker: {TIMEOUT}, got 'nan'"),
        ([*SHIPPED, "--predictor_timeout", "soon"], f"ranker: {TIMEOUT}, got 'soon'"),
    ],
)
def test_a_mistake_at_the_start_is_one_sentence(
    arguments: list[Any], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ranker", *arguments])
    monkeypatch.setattr("serving.process.server.configure_logging", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith(sentence)
    assert len(said.err.splitlines()) == 1


@pytest.fixture
def served(
    shop_bundle: Path, catalogue: Path, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    call = [Path(sys.executable).parent / "offers", "serve", "--bundle", shop_bundle, "--catalogue", catalogue]
    environment = os.environ | {"OFFERS_HOME": str(tmp_path)}
    process = subprocess.Popen([*call, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    try:
        assert process.stdout is not None
        said: dict[str, str] = {}
        while "or" not in said and (line := process.stdout.readline()):
            name, value = line.split(maxsplit=1)
            said[name] = value.strip()
        yield process, said
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_offers_serve_and_rank(
    number: Any, served: tuple[subprocess.Popen[str], dict[str, str]], shop_bundle: Path, tmp_path: Path
) -> None:
    process, said = served
    assert said["bundle"] == shop_bundle.name
    done = offers(tmp_path, *said["or"].split()[1:])
    assert done.returncode == 0, done.stderr
    assert "full" in done.stdout
    assert "HIGHEST_SCORE" in done.stdout
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(changed("customer", spending=-1)))
    url = said["or"].split()[3]
    done = offers(tmp_path, "rank", "--url", url, "--customer", bad)
    assert done.returncode == 2
    assert "column 'spending', row 1: expected at least 0, got -1" in done.stderr
    services = psutil.Process(process.pid).children(recursive=True)
    assert services
    process.send_signal(number)
    assert process.wait(DEADLINE) == 0
    # Their ports may belong to another test by now.
    assert psutil.wait_procs(services, DEADLINE)[1] == []


def test_a_ranker_that_is_not_there_is_named(tmp_path: Path) -> None:
    customer = tmp_path / "customer.json"
    customer.write_text(json.dumps(changed("customer", spending=1)))
    # Nobody may listen on port 1 but root, and nobody does.
    done = offers(tmp_path, "rank", "--url", "http://127.0.0.1:1", "--customer", customer)
    assert done.returncode == 2
    assert "no ranker answers at http://127.0.0.1:1" in done.stderr


def test_policy_check(catalogue: Path, tmp_path: Path) -> None:
    done = offers(tmp_path, "policy", "check", "bank-marketing")
    assert done.returncode == 0
    assert "12 offers in 3 families keep to contract bank-marketing" in done.stdout
    done = offers(tmp_path, "policy", "check", catalogue, "--contract", "bank-marketing")
    assert done.returncode == 2
    assert "it is for 'shop'" in done.stderr
    nameless = tmp_path / "nameless.yaml"
    nameless.write_text("name: warranties\n")
    done = offers(tmp_path, "policy", "check", nameless)
    assert done.returncode == 2
    assert "nameless.yaml: 'contract': expected the name of a contract, got None" in done.stderr
