import asyncio
import json
import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.http
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp
from tritonclient.utils import InferenceServerException

from offers.contract.contract import Contract
from serving.protocol import rest
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import (
    GRPCInferenceServiceStub,
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    PredictorConfig,
    RequestedOutput,
    messages,
)
from serving.ranker.predictor_client import PairScores
from serving.ranker.ranker import INLINE_CUSTOMERS, Ranker
from tests.support.rankers import (
    CROWD,
    FALLBACK,
    INFER,
    MAX_CUSTOMERS,
    PREDICT,
    Scripted,
    asking,
    nobody,
    policy_of,
    ranking,
    scripted,
    someone,
)
from tests.support.services import DEADLINE, Service, serving
from tests.support.warranties import WARRANTIES

MOMENT = "2024-02-29T12:00:00+01:00"
ASKED = [
    CROWD[0] | {"k": 1, "as_of": MOMENT},
    CROWD[1] | {"offers": ["free", "basic"]},
    CROWD[2] | {"as_of": "2024-03-01"},
    *CROWD[3:],
]
NUMBERS = {"spending": "FP64", "visits": "FP64", "member": "BOOL", "rating": "FP64"}
KINDS = {"customer_id": "BYTES", **NUMBERS, "region": "BYTES", "offers": "BYTES", "k": "FP64", "as_of": "BYTES"}
DTYPES = {"FP64": np.float64, "BOOL": np.bool_, "BYTES": np.object_}


@pytest.fixture(scope="module")
def service(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("services")
    catalogue = directory / "warranties.yaml"
    catalogue.write_text(WARRANTIES)
    with (
        serving("serving.predictor", directory / "predictor.log", "--bundle", shop_bundle) as predictor,
        ranking(predictor, shop_bundle, catalogue, directory / "ranker.log") as service,
    ):
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=DEADLINE) as client:
        yield client


def columns(instances: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """V1 instances as the columns of a V2 request, written down by hand."""

    def each(part: str, name: str) -> list[Any]:
        return [instance[part][name] for instance in instances]

    def number(value: float | None) -> float:
        return math.nan if value is None else float(value)

    return {
        "customer_id": [instance["customer_id"] for instance in instances],
        "spending": each("customer", "spending"),
        "visits": list(map(number, each("customer", "visits"))),
        "region": each("customer", "region"),
        "member": each("customer", "member"),
        "rating": list(map(number, each("context", "rating"))),
        "offers": [",".join(instance.get("offers", [])) for instance in instances],
        "k": [number(instance.get("k")) for instance in instances],
        "as_of": [instance.get("as_of", "") for instance in instances],
    }


def sent(columns: dict[str, list[Any]], binary: bool) -> list[InferInput]:
    """Columns as KServe's own clients send them, the last one first."""
    inputs = []
    for name, values in reversed(columns.items()):
        inputs.append(InferInput(name, [len(values)], KINDS[name], values))
        if binary:
            inputs[-1].set_data_from_numpy(np.array(values, DTYPES[KINDS[name]]))
    return inputs


def decisions(answer: InferResponse) -> list[dict[str, Any]]:
    [output] = answer.outputs
    assert (output.name, output.datatype) == ("decision", "BYTES")
    return [json.loads(text) for text in output.as_numpy()]


def comparable(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must be the same whenever the same is asked: all but the id of the decision, and the time of the answer."""
    given = [instance.get("as_of") for instance in ASKED]
    assert len({prediction["decision_id"] for prediction in predictions}) == len(ASKED)
    return [
        prediction | {"decision_id": "", "as_of": prediction["as_of"] if moment else None}
        for prediction, moment in zip(predictions, given, strict=True)
    ]


@pytest.fixture(scope="module")
def expected(service: Service) -> list[dict[str, Any]]:
    """What V1 answers."""
    answer = httpx.post(f"{service.url}{PREDICT}", json={"instances": ASKED}, timeout=DEADLINE)
    predictions = answer.json()["predictions"]
    assert [len(prediction["offers"]) for prediction in predictions] == [1, 1, 2, 0, 0, 2]
    return comparable(predictions)


@pytest.mark.parametrize("binary", [True, False])
def test_kserves_rest_client_gets_what_v1_answers(
    binary: bool, service: Service, expected: list[dict[str, Any]]
) -> None:
    from kserve import InferenceRESTClient, RESTConfig

    async def ask() -> InferResponse:
        request = InferRequest("offers", sent(columns(ASKED), binary), parameters={"binary_data_output": binary})
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            assert await client.is_server_ready(service.url)
            return await client.infer(service.url, request, model_name="offers")

    assert comparable(decisions(asyncio.run(ask()))) == expected


@pytest.mark.parametrize("binary", [True, False])
def test_kserves_grpc_client_gets_what_v1_answers(
    binary: bool, service: Service, expected: list[dict[str, Any]]
) -> None:
    from kserve import InferenceGRPCClient

    async def ask() -> InferResponse:
        async with InferenceGRPCClient(f"127.0.0.1:{service.grpc_port}") as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("offers")
            return await client.infer(InferRequest("offers", sent(columns(ASKED), binary), request_id="nine"))

    answer = asyncio.run(ask())
    assert answer.id == "nine"
    assert answer.model_version.startswith("warranties-")
    assert comparable(decisions(answer)) == expected


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_what_v1_answers(binary: bool, service: Service, expected: list[dict[str, Any]]) -> None:
    inputs = []
    for name, values in columns(ASKED).items():
        column = np.array(values, DTYPES[KINDS[name]])
        inputs.append(tritonclient.http.InferInput(name, column.shape, KINDS[name]))
        inputs[-1].set_data_from_numpy(column, binary_data=binary)
    outputs = [tritonclient.http.InferRequestedOutput("decision", binary_data=binary)]
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{service.http_port}") as client:
        assert client.is_model_ready("offers")
        answer = client.infer("offers", inputs, outputs=outputs).as_numpy("decision")
        with pytest.raises(InferenceServerException, match="column 'spending': expected a value, but it is missing"):
            client.infer("offers", [item for item in inputs if item.name() != "spending"])
    assert comparable([json.loads(text) for text in answer]) == expected


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_curl_gets_an_answer_in_each_version(version: str, service: Service) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    call = ["curl", "--silent", "--noproxy", "*", version, "--data", json.dumps({"instances": ASKED})]
    done = subprocess.run([*call, f"{service.url}{PREDICT}"], capture_output=True, check=True, timeout=DEADLINE)
    assert len(json.loads(done.stdout)["predictions"]) == len(ASKED)


JAVA = """\
import java.net.URI; import java.net.http.*; import java.nio.file.*;
public class Ask { public static void main(String[] given) throws Exception {
  for (var version : HttpClient.Version.values()) {
    var client = HttpClient.newBuilder().version(version).build();
    for (int time = 0; time < 2; time++) {
      var request = HttpRequest.newBuilder(URI.create(given[0])).header("content-type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofFile(Path.of(given[1]))).build();
      System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
  }
} }
"""
"""By default Java asks to upgrade to HTTP/2; each of its clients sends two requests over one connection."""


def test_a_java_client_gets_an_answer_in_each_version(service: Service, tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("there is no Java here")
    (tmp_path / "Ask.java").write_text(JAVA)
    (tmp_path / "body.json").write_text(json.dumps({"instances": ASKED}))
    call = ["java", tmp_path / "Ask.java", f"{service.url}{PREDICT}", tmp_path / "body.json"]
    done = subprocess.run(call, capture_output=True, check=True, timeout=DEADLINE)
    answers = [json.loads(line)["predictions"] for line in done.stdout.splitlines()]
    assert [len(answer) for answer in answers] == [len(ASKED)] * 4


def tensor(name: str, values: list[Any], kind: str = "", shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": kind or KINDS[name], "shape": shape or [len(values)], "data": values}


def request(instances: list[dict[str, Any]], **changed: dict[str, Any] | None) -> dict[str, Any]:
    """A V2 request without the optional tensors, then with some replaced, added or, where None, left out."""
    own = {name: values for name, values in columns(instances).items() if name not in ("offers", "k", "as_of")}
    plain = {
        name: [None if value != value else value for value in values]  # noqa: PLR0124
        for name, values in own.items()
    }
    return {"inputs": [item for item in ({n: tensor(n, v) for n, v in plain.items()} | changed).values() if item]}


def asked(client: httpx.Client, content: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(INFER, json=content)
    assert answer.status_code == 200, answer.text
    return [json.loads(text) for text in answer.json()["outputs"][0]["data"]]


@pytest.mark.parametrize("n_customers", [1, INLINE_CUSTOMERS, INLINE_CUSTOMERS + 1])
def test_without_the_optional_tensors_the_catalogue_and_the_clock_hold(n_customers: Any, client: httpx.Client) -> None:
    crowd = [someone(str(n)) for n in range(n_customers)]
    predictions = asked(client, request(crowd))
    assert [prediction["customer_id"] for prediction in predictions] == [str(n) for n in range(n_customers)]
    assert {len(prediction["offers"]) for prediction in predictions} == {2}
    assert all(prediction["as_of"].endswith("+00:00") for prediction in predictions)


def test_tensors_of_width_one_and_integers_and_spaces(client: httpx.Client) -> None:
    wide = {
        "customer_id": tensor("customer_id", [["Müller, Ç"]], shape=[1, 1]),
        "k": tensor("k", [[1]], "UINT8", [1, 1]),
        "offers": tensor("offers", [["basic , free"]], shape=[1, 1]),
    }
    [prediction] = asked(client, request([someone("A")], **wide))
    assert prediction["customer_id"] == "Müller, Ç"
    assert len(prediction["offers"]) == 1
    assert {offer["offer_id"] for offer in prediction["offers"] + prediction["withheld"]} == {"basic", "free"}


def test_metadata_names_tensors_limits_and_the_answer(client: httpx.Client, service: Service) -> None:
    described = client.get("/v2/models/offers").json()
    assert described["outputs"] == [{"name": "decision", "datatype": "BYTES", "shape": [-1]}]
    inputs = {item.pop("name"): item for item in described["inputs"]}
    assert list(inputs) == [
        *("customer_id", "spending", "visits", "region", "member", "rating"),
        *("offers", "k", "as_of"),
    ]
    assert inputs["customer_id"] == {"datatype": "BYTES", "shape": [-1], "parameters": {"optional": False}}
    assert inputs["k"] == {"datatype": "INT64", "shape": [-1], "parameters": {"optional": True}}
    assert inputs["region"]["parameters"]["labels"] == ["north", "south"]
    assert inputs["spending"] == {
        "datatype": "FP64",
        "shape": [-1],
        "parameters": {"min": 0, "max": 10000, "unit": "EUR", "may_be_missing": False},
    }
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        ours = GRPCInferenceServiceStub(channel).ModelMetadata(messages.ModelMetadataRequest(name="offers"))
    assert {item.name: item.datatype for item in ours.inputs} == {
        name: item["datatype"] for name, item in inputs.items()
    }


A, AND_B = [someone("A")], [someone("A"), someone("B")]
OUTPUT = [{"name": "propensity"}]
IDS = "field 'customer_id', row 1: expected text of 1 to 128 printable characters, got "
BAD = {
    "no customer_id": (request(A, customer_id=None), "column 'customer_id': expected a value, but it is missing"),
    "a tensor twice": ({"inputs": request(A)["inputs"] * 2}, "column 'customer_id': expected one tensor, got 2"),
    "customer_id as a number": (
        request(A, customer_id=tensor("customer_id", [7], "INT64")),
        "column 'customer_id': expected datatype BYTES, got 'INT64'",
    ),
    "customer_id of another type": (request(A, customer_id=tensor("customer_id", [7])), f"{IDS}7"),
    "an empty customer_id": (request(A, customer_id=tensor("customer_id", [""])), f"{IDS}''"),
    "no customer_id in it": (request(A, customer_id=tensor("customer_id", [None])), f"{IDS}null"),
    "customers who stand twice": (
        request([*AND_B, someone("A")]),
        "field 'customer_id', row 3: expected each customer once, got the one of row 1",
    ),
    "fewer customers than rows": (
        request(AND_B, customer_id=tensor("customer_id", ["A"])),
        "column 'customer_id': expected 2 rows as the columns have, got 1 of shape [1]",
    ),
    "fewer customers than the shape says": (
        request(AND_B, customer_id=tensor("customer_id", ["A"], shape=[2])),
        "column 'customer_id': expected 2 rows as the columns have, got 1 of shape [2]",
    ),
    "another shape": (
        request(AND_B, customer_id=tensor("customer_id", ["A", "B"], shape=[1, 2])),
        "column 'customer_id': expected 2 rows as the columns have, got 2 of shape [1, 2]",
    ),
    "a missing column": (request(A, spending=None), "column 'spending': expected a value, but it is missing"),
    "an unknown column": (request(A, x=tensor("x", [1], "INT8")), "column 'x': not an input of this model; expected"),
    "a column that the offer sets": (
        request(A, channel=tensor("channel", ["web"], "BYTES")),
        "column 'channel': not an input of this model",
    ),
    "a column out of range": (
        request(A, spending=tensor("spending", [-1.0])),
        "column 'spending', row 1: expected at least 0, got -1",
    ),
    "k of 0": (request(A, k=tensor("k", [0], "INT64")), "column 'k', row 1: expected at least 1, got 0"),
    "k of 1.5": (request(A, k=tensor("k", [1.5])), "column 'k', row 1: expected a whole number, got 1.5"),
    "k as text": (request(A, k=tensor("k", ["1"], "BYTES")), "column 'k': expected datatype FP64, FP32, INT64"),
    "k of two": (request(A, k=tensor("k", [1, 1])), "column 'k': expected 1 rows as the columns have, got 2 of shape"),
    "an unknown offer": (
        request(AND_B, offers=tensor("offers", ["", "full,gold"])),
        "field 'offers', row 2: expected of basic, free, full, got 'gold'",
    ),
    "a comma too many": (
        request(A, offers=tensor("offers", ["full,"])),
        "field 'offers', row 1: expected of basic, free, full, got ''",
    ),
    "offers as a number": (
        request(A, offers=tensor("offers", [7])),
        "field 'offers', row 1: expected a list of ids of the catalogue, one at least, got 7",
    ),
    "as_of of another form": (
        request(A, as_of=tensor("as_of", ["soon"])),
        "field 'as_of', row 1: expected a date or a time as ISO 8601 writes it, got 'soon'",
    ),
    "as_of of false": (request(A, as_of=tensor("as_of", [False])), "field 'as_of', row 1: expected a date or a time"),
    "many tensors twice": (
        {"inputs": request(A)["inputs"] + [tensor("k", [1], "INT64")] * 1000},
        "column 'k': expected one tensor, got 1000",
    ),
    "k of 1.0 as an integer": (request(A, k=tensor("k", [1.0], "INT64")), "column 'k', row 1: expected INT64, got 1.0"),
    "an output twice": (request(A) | {"outputs": [{"name": "decision"}] * 2}, "'outputs': expected one, got 2"),
    "an unknown output": (request(A) | {"outputs": OUTPUT}, "'outputs': expected 'decision', got 'propensity'"),
    "no rows": (request([]), "the tensors: expected at least one row, got none"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_request(case: Any, client: httpx.Client) -> None:
    content, sentence = BAD[case]
    answer = client.post(INFER, json=content)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(sentence)


def test_too_many_customers(client: httpx.Client) -> None:
    answer = client.post(INFER, json=request([someone(str(n)) for n in range(MAX_CUSTOMERS + 1)]))
    assert answer.status_code == 413
    assert answer.json() == {"error": "the tensors: expected at most 50 rows in a request, got 51"}


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"\x05\x00\x00\x00Mar", "column 'customer_id': expected text with 4-byte lengths, got one that ends in mid"),
        (b"\x01\x00", "column 'customer_id': expected text with 4-byte lengths, got one that ends in mid-word"),
        (b"", "column 'customer_id': expected 1 rows as the columns have, got 0 of shape [1]"),
        (b"\x01\x00\x00\x00\xff", f"{IDS}'\\udcff'"),
    ],
)
def test_text_in_malformed_bytes(raw: bytes, sentence: str, service: Service) -> None:
    inputs = sent({name: values for name, values in columns(A).items() if name != "k"}, binary=True)
    next(item for item in inputs if item.name == "customer_id")._raw_data = raw
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer
        with pytest.raises(grpc.RpcError) as error:
            infer(InferRequest("offers", inputs).to_grpc(), timeout=DEADLINE)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(sentence)


def test_a_predictor_that_is_away(shop_contract: Contract) -> None:
    async def fallback(client: httpx.AsyncClient) -> None:
        answer = (await client.post(INFER, json=request(A))).json()
        [prediction] = map(json.loads, answer["outputs"][0]["data"])
        assert prediction["fallback"]
        assert [offer["reasons"] for offer in prediction["offers"]] == [["BY_VALUE"]] * 2

    async def none(client: httpx.AsyncClient) -> None:
        answer = await client.post(INFER, json=request(A))
        assert answer.status_code == 503
        assert "the predictor does not answer (UNAVAILABLE)" in answer.json()["error"]

    with nobody() as port:
        asyncio.run(asking(shop_contract, FALLBACK, port, fallback))
        asyncio.run(asking(shop_contract, WARRANTIES, port, none))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS)
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(list(KINDS)) | JSON},
    optional={
        "shape": st.lists(st.integers(-1, 3), max_size=2) | JSON,
        "datatype": st.sampled_from(["FP64", "INT64", "BOOL", "BYTES"]) | JSON,
        "data": st.lists(st.sampled_from(["full", "2024-01-01", ""]) | JSON, max_size=3) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}) | JSON,
    },
)
CHANGES = st.dictionaries(st.sampled_from(list(KINDS)), TENSOR, max_size=3)


@pytest.fixture(scope="module")
def application(shop_contract: Contract) -> ASGIApp:
    async def score(columns: Mapping[str, np.ndarray], *_: object) -> PairScores:
        return PairScores(np.full(len(columns["visits"]), 0.25), "none")

    config = PredictorConfig("127.0.0.1:1", "grpc-v2")
    ranker = Ranker("offers", policy_of(shop_contract, WARRANTIES), shop_contract, config)
    ranker.predictor = SimpleNamespace(score=score, config=config)
    return rest.application(ServicePlane([ranker]))


@given(changes=CHANGES, outputs=st.none() | JSON, tail=st.binary(max_size=20), declares=st.booleans())
def test_no_body_is_a_fault_of_ours(changes: Any, outputs: Any, tail: Any, declares: Any, application: ASGIApp) -> None:
    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            body = json.dumps(request(AND_B, **changes) | ({"outputs": outputs} if outputs else {})).encode()
            headers = {"inference-header-content-length": str(len(body))} if declares else {}
            return await client.post(INFER, content=body + (tail if declares else b""), headers=headers)

    answer = asyncio.run(post())
    assert answer.status_code in (200, 400)
    assert list(answer.json()) == ["error"] or answer.status_code == 200


def test_a_ranker_can_be_asked_without_a_server(shop_contract: Contract) -> None:
    async def test() -> None:
        async with scripted(Scripted()) as port:
            config = PredictorConfig(f"127.0.0.1:{port}", "grpc-v2", False, DEADLINE, 0)
            ranker = Ranker("offers", policy_of(shop_contract, WARRANTIES), shop_contract, config)
            outputs = [RequestedOutput("decision")]
            asked = InferRequest("offers", sent(columns(A), False), request_outputs=outputs, request_id="one")
            answer, _ = await ranker(asked)
            [output] = answer.outputs
            assert isinstance(output, InferOutput)
            assert (answer.id, json.loads(output.data[0])["customer_id"]) == ("one", "A")

    asyncio.run(test())
