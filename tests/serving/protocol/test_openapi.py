import asyncio
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31
from starlette.types import ASGIApp

from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import RequestError
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from serving.predictor.model import Predictor
from serving.protocol import rest
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import Model, PredictorConfig
from serving.protocol.openapi import document
from serving.protocol.rows import RequestSchema
from serving.ranker.predictor_client import PairScores
from serving.ranker.question import example
from serving.ranker.ranker import Ranker
from tests.support.services import DEADLINE, serving
from tests.support.warranties import WARRANTIES

ODD = """\
name: odd
title: Columns of every kind
source: {file: odd.csv}
target: {column: y, positive: a, negative: b}
columns:
  - {name: any number, role: customer, type: number}
  - {name: at least, role: customer, type: number, min: -2.5, unit: EUR}
  - {name: at most, role: customer, type: integer, max: 7, description: how many}
  - {name: number or null, role: customer, type: number, min: 0, nullable: true}
  - {name: number with words, role: customer, type: number, min: 0, max: 1, missing: [-1, "n/a", 2.5, nan, inf]}
  - {name: integer with words, role: context, type: integer, min: 0, max: 50, missing: [99, "?"]}
  - {name: flag, role: customer, type: boolean}
  - {name: flag or null, role: offer, type: boolean, nullable: true}
  - {name: flag with words, role: offer, type: boolean, missing: [9, "?"]}
  - {name: word, role: customer, type: category, values: ["1", "2"]}
  - {name: word or null, role: customer, type: category, values: [a, b], nullable: true}
  - {name: word with words, role: customer, type: category, values: [a, b], missing: ["?", 99]}
  - {name: any word, role: customer, type: category, values: [a, b], unknown: missing}
  - {name: y, role: target, type: category}
gate: [{metric: auc, at_least: 0.5}]
"""
LARGE = [float(np.finfo(np.float32).max), 3.5e38, 1e300, 2**63, 2**64, 10**38, 10**39]
NUMBERS = [0, 1, 2, 2.5, 0.5, 1.0, 2.0, -1, -2.5, -2.6, 7, 8, 9, 50, 51, 99, 99.0, *LARGE, *(-value for value in LARGE)]
OTHERS = [
    None,
    True,
    False,
    "",
    "1",
    "a",
    "b",
    "c",
    "?",
    "n/a",
    "99",
    "-1",
    "nan",
    "inf",
    "A",
    " a",
    [],
    ["a"],
    {},
    [1],
]


@pytest.fixture(scope="module")
def predictor(shop_bundle: Path) -> Predictor:
    return Predictor("shop", bundles.load(shop_bundle))


@pytest.fixture(scope="module")
def ranker(shop_contract: Contract) -> Ranker:
    async def score(columns: dict[str, np.ndarray], *_: object) -> PairScores:
        return PairScores(np.full(len(columns["visits"]), 0.25), "none")

    async def check() -> None:
        pass

    config = PredictorConfig("127.0.0.1:1", "grpc-v2")
    policy = Policy(catalogues.parse(WARRANTIES, shop_contract), shop_contract)
    ranker = Ranker("shop", policy, shop_contract, config)
    ranker.predictor = SimpleNamespace(score=score, check=check, config=config)
    return ranker


@pytest.fixture(params=["predictor", "ranker"])
def model(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(request.param)


def application(model: Model) -> ASGIApp:
    return rest.application(ServicePlane([model]))


def asked(model: Model, method: str, path: str, **sent: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(model))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **sent)

    return asyncio.run(ask())


def schema_of(content: dict[str, Any], whole: dict[str, Any]) -> jsonschema_rs.Validator:
    """A validator of one schema in a document, which may refer to the document's components."""
    return jsonschema_rs.Draft202012Validator(content["schema"] | {"components": whole["components"]})


def operations(whole: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in whole["paths"].items():
        for method in item.keys() & {"get", "post"}:
            yield method, path, item[method]


def test_the_document_is_openapi_3_1(model: Model) -> None:
    whole = asked(model, "GET", "/openapi.json").json()
    assert whole == document([model])
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(whole)
    for _, _, operation in operations(whole):
        for part in (operation.get("requestBody"), *operation["responses"].values()):
            for content in part["content"].values() if part else ():
                jsonschema_rs.meta.validate(content.get("schema", {}) | {"components": whole["components"]})


def test_it_holds_each_address_that_is_answered_and_no_other(model: Model) -> None:
    routes = {
        (method, route.path.replace("{model_name:model}", "shop"))
        for route in application(model).app.routes
        for method in route.methods - {"HEAD"}
    }
    unsupported = {("POST", "/v1/models/shop:explain")} if isinstance(model, Ranker) else set()
    told = {(method.upper(), path) for method, path, _ in operations(document([model]))}
    assert told == routes - {("GET", "/docs"), ("GET", "/openapi.json")} - unsupported
    for method, path in unsupported:
        assert asked(model, method, path, json=example(model.contract)).status_code == 404


def test_each_example_is_answered_as_declared(model: Model) -> None:
    whole, n_examples = document([model]), 0
    for method, path, operation in operations(whole):
        content = operation["requestBody"]["content"]["application/json"] if method == "post" else None
        if content:
            schema_of(content, whole).validate(content["example"])
        address = path.replace("{model_version}", model.version)
        answer = asked(model, method.upper(), address, json=content and content["example"])
        assert answer.status_code == 200, answer.text
        form = operation["responses"]["200"]["content"][answer.headers["content-type"].split(";")[0]]
        schema_of(form, whole).validate(answer.json() if "json" in answer.headers["content-type"] else answer.text)
        n_examples += bool(content)
    assert n_examples == {Predictor: 4, Ranker: 3}[type(model)]


def test_a_refusal_is_declared(model: Model) -> None:
    whole = document([model])
    for method, path, operation in operations(whole):
        if method == "post":
            for body, status in ((b"{", 400), (b" " * 2**23, 413)):
                answer = asked(model, "POST", path.replace("{model_version}", model.version), content=body)
                assert answer.status_code == status
                schema_of(operation["responses"][str(status)]["content"]["application/json"], whole).validate(
                    answer.json()
                )


def test_a_body_that_stops_short_is_declared(model: Model) -> None:
    posts = [operation for method, _, operation in operations(document([model])) if method == "post"]
    assert all("408" in operation["responses"] for operation in posts)


def test_a_model_of_another_kind_has_what_all_have() -> None:
    echo = Model("echo")
    echo.version = "echo-1"
    whole = document([echo])
    assert {path for path in whole["paths"] if "echo" in path} == {
        "/v1/models/echo",
        "/v2/models/echo",
        "/v2/models/echo/ready",
        "/v2/models/echo/versions/{model_version}",
        "/v2/models/echo/versions/{model_version}/ready",
    }


def row_schema(whole: dict[str, Any], path: str) -> dict[str, Any]:
    content = whole["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return content["schema"]["properties"]["instances"]["items"]


def accepted(schema: RequestSchema, instance: dict[str, Any]) -> bool:
    try:
        schema.from_instances([instance])
    except RequestError:
        return False
    return True


def contract_of(name: str) -> Contract:
    return contracts.parse(ODD) if name == "odd" else contracts.load(name)


def described(contract: Contract) -> dict[str, Any]:
    """The schemas of a predictor's columns, of a contract that needs no bundle."""
    model = SimpleNamespace(encoder=SimpleNamespace(names=[]))
    schema = RequestSchema(contract.inputs)
    fake = SimpleNamespace(
        name="odd",
        version="odd-1",
        bundle=SimpleNamespace(contract=contract, model=model),
        schema=schema,
        explained=schema,
        get_input_types=list,
        get_output_types=list,
    )
    return row_schema(document([fake]), "/v1/models/odd:predict")["properties"]


@pytest.mark.parametrize("given", [1, 2, 1.0, 2.0, 1e300, 2**63, None, 0, -1, 0.0, 1.5, True, "1", [1]])
def test_k_is_described_as_it_is_checked(given: bool | float | int | list[Any] | str | None, ranker: Ranker) -> None:
    whole = document([ranker])
    body = whole["paths"]["/v1/models/shop:predict"]["post"]["requestBody"]["content"]["application/json"]
    request = json.loads(json.dumps(body["example"]))
    request["instances"][0]["k"] = given
    fits = asked(ranker, "POST", "/v1/models/shop:predict", json=request).is_success
    assert schema_of(body, whole).is_valid(request) is fits


@pytest.mark.parametrize("name", ["odd", *contracts.shipped()])
def test_a_column_is_described_as_it_is_checked(name: Any) -> None:
    contract, verdicts = contract_of(name), set()
    properties = described(contract)
    for column in contract.inputs:
        validator = jsonschema_rs.Draft202012Validator(properties[column.name])
        schema = RequestSchema([column])
        limits = [value for value in (column.min, column.max) if value is not None]
        edges = [edge + step for edge in limits for step in (-1, -0.5, 0, 0.5, 1)]
        for value in (*NUMBERS, *OTHERS, *column.values, *edges):
            verdict = accepted(schema, {column.name: value})
            assert (column.name, value, validator.is_valid(value)) == (column.name, value, verdict)
            verdicts.add((column.type, verdict))
    assert verdicts >= {(column.type, verdict) for column in contract.inputs for verdict in (True, False)}


def test_units_and_descriptions_are_told() -> None:
    properties = described(contracts.parse(ODD))
    assert properties["at least"]["description"] == "(EUR)"
    assert properties["at most"]["description"] == "how many"
    assert "description" not in properties["any number"]


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ("Maria", True),
        ("Mária 東京 🙂-7_a.b@c", True),
        (" ", True),
        ("", False),
        ("x" * 129, False),
        ("a\tb", False),
        ("a\u00a0b", False),
        ("\u200b", False),
        ("\x7f", False),
    ],
)
def test_a_customer_id_is_described_as_it_is_checked(given: str, fits: bool, ranker: Ranker) -> None:
    whole = document([ranker])
    body = whole["paths"]["/v1/models/shop:predict"]["post"]["requestBody"]["content"]["application/json"]
    request = json.loads(json.dumps(body["example"]))
    request["instances"][0]["customer_id"] = given
    assert schema_of(body, whole).is_valid(request) is fits
    assert asked(ranker, "POST", "/v1/models/shop:predict", json=request).is_success is fits


def test_a_contract_without_context_asks_for_none(shop_yaml: str) -> None:
    contract = contracts.parse(shop_yaml.replace("name: rating, role: context", "name: rating, role: customer"))
    text = WARRANTIES.replace("weights: [{when: {column: rating, at_least: 4}, weight: 2}]", "")
    model = Ranker("shop", Policy(catalogues.parse(text, contract), contract), contract, PredictorConfig("127.0.0.1:1"))
    assert row_schema(document([model]), "/v1/models/shop:predict")["required"] == ["customer_id", "customer"]


def test_the_offers_and_reasons_are_the_catalogues(ranker: Ranker) -> None:
    answer = document([ranker])["paths"]["/v1/models/shop:predict"]["post"]["responses"]["200"]
    ranking = answer["content"]["application/json"]["schema"]["properties"]["predictions"]["items"]["properties"]
    assert ranking["offers"]["items"]["properties"]["offer_id"] == {"enum": ["full", "basic", "free"]}
    assert ranking["withheld"]["items"]["properties"]["reasons"]["items"]["properties"]["code"]["enum"] == [
        "BEYOND_K",
        "FAMILY_LIMIT",
        "FAR_AWAY",
        "NOT_WORTH_ITS_COST",
        "NO_CUSTOMER_YET",
        "NO_MEMBER",
    ]


def test_the_page_loads_nothing_from_elsewhere_and_nothing_may_be_smuggled_in(ranker: Ranker) -> None:
    answer = asked(ranker, "GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == rules["form-action"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", rules["style-src"])
    assert not re.search(r"https?://|\bsrc=|innerHTML|\bstyle=", answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no browser here")
    return found


@pytest.mark.slow
def test_a_browser_shows_each_operation(chromium: str, shop_bundle: Path, tmp_path: Path) -> None:
    with serving("serving.predictor", tmp_path / "log", "--bundle", shop_bundle) as service:
        shown = page(chromium, f"{service.url}/docs", tmp_path)
        with posting_site(f"{service.url}/v1/models/offers:predict") as site:
            assert "<title>tried</title>" in page(chromium, site, tmp_path)
        metrics = httpx.get(f"{service.url}/metrics").text
        whole = httpx.get(f"{service.url}/openapi.json").json()
    assert "Offers predictor" in shown
    assert re.search('class="badge good">ready<', shown)
    assert shown.count('<details class="operation"') == sum(1 for _ in operations(whole))
    assert "number 0 to 10000" in shown
    # The page of another site was refused before anybody read its body.
    assert 'offers_requests_total{route="unknown",status="403"} 1.0' in metrics
    assert not re.search(r'offers_requests_total\{route="[^"]*:predict",status="4', metrics)


@contextmanager
def posting_site(target: str) -> Iterator[str]:
    """A page of another origin that posts text, as a browser lets it do without asking."""
    options = '{method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}, body: "{}"}'
    html = f"<script>fetch({target!r}, {options}).finally(() => document.title = 'tried')</script>".encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def page(chromium: str, url: str, directory: Path) -> str:
    """What a browser makes of a page."""
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    switches = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
    switches.append(f"--user-data-dir={directory / 'browser'}")
    call = [chromium, *switches, "--virtual-time-budget=20000", "--dump-dom", url]
    return subprocess.run(call, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
