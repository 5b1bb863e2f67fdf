import asyncio
import json
import math
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from scipy.special import expit
from starlette.types import ASGIApp

from offers.bundle import bundle as bundles
from offers.bundle.update import changes, update
from offers.contract import contract as contracts
from offers.data.dataset import Dataset
from offers.steps.data import read_gold
from serving.predictor.__main__ import main
from serving.predictor.model import INLINE_ROWS, Predictor
from serving.protocol import rest
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import InferInput, InferOutput, InferRequest, InferResponse, messages
from serving.protocol.rows import Rows
from serving.protocol.tensor import datatype
from tests.support.runs import ShopRun
from tests.support.services import DEADLINE, Service, command, serving
from tests.support.shop import SHOP

PREDICT, EXPLAIN, INFER = "/v1/models/shop:predict", "/v1/models/shop:explain", "/v2/models/shop/infer"
INPUTS = {column.name: datatype(column) for column in contracts.parse(SHOP).inputs}
GOOD = {"spending": 12.5, "visits": 3, "channel": "web", "region": "south", "member": True, "rating": None}


@pytest.fixture(scope="module")
def service(shop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("predictor") / "log"
    with serving("serving.predictor", log, "--bundle", shop_bundle, "--name", "shop", "--max_rows", 2000) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


@pytest.fixture
def predictor(shop_bundle: Path) -> Predictor:
    return Predictor("shop", bundles.load(shop_bundle))


@pytest.fixture(scope="module")
def application(shop_bundle: Path) -> ASGIApp:
    return rest.application(ServicePlane([Predictor("shop", bundles.load(shop_bundle))]))


@pytest.fixture(scope="module")
def golden(shop_bundle: Path) -> dict:
    return json.loads((shop_bundle / "golden.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def columns(golden: dict) -> dict:
    """Golden rows as V2 columns: what is missing is NaN."""

    def column(name: str, kind: str) -> list:
        values = [row[name] for row in golden["rows"]]
        return [math.nan if value is None and kind != "BYTES" else value for value in values]

    return {name: (kind, column(name, kind)) for name, kind in INPUTS.items()}


def inputs(columns: dict, binary: bool) -> list[InferInput]:
    """Columns as KServe's own clients send them, the last one first."""
    sent = []
    for name, (kind, values) in reversed(columns.items()):
        sent.append(InferInput(name, [len(values)], kind, values))
        if binary:
            dtype = {"BYTES": np.object_, "BOOL": np.bool_}.get(kind, np.float64)
            sent[-1].set_data_from_numpy(np.array(values, dtype))
    return sent


@dataclass(frozen=True)
class Fault:
    """Labels that an update can't learn much from, and what its report says of them."""

    labels: Callable[[np.ndarray], np.ndarray]
    says: str
    lag: int = 0
    far: bool = False


FAULTS = {
    "a-year-without-labels": Fault(lambda labels: labels, "that is too late", lag=365 * 200),
    "one-kind": Fault(np.zeros_like, "the newest labels are all of one kind"),
    "contradicting": Fault(lambda labels: 1 - labels, "labels contradict it"),
    "far-outside": Fault(lambda labels: labels, "far outside all that it has learnt", far=True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_labels_that_teach_nothing_leave_the_trees_alone_and_report_and_metrics_say_so(
    shop_run: ShopRun, name: str
) -> None:
    fault, parent = FAULTS[name], bundles.load(shop_run.bundle)
    rows = read_gold(shop_run.gold, parent.contract)
    # As many acceptances as others, so that turned labels have the same level.
    chosen = np.sort(np.concatenate([np.flatnonzero(rows.labels == outcome)[:250] for outcome in (0, 1)]))
    newer = rows.frame.iloc[chosen]
    if fault.far:
        newer = newer.assign(**dict.fromkeys(("spending", "visits", "rating"), 1000000000000000.0))
    grown = Dataset(
        pd.concat([rows.frame, newer], ignore_index=True).astype(rows.frame.dtypes),
        np.concatenate([rows.labels, fault.labels(rows.labels[chosen])]),
        np.concatenate([rows.periods, np.repeat(rows.periods[-1], len(chosen))]),
    )
    model, _ = update(parent, grown, fault.lag)
    told = changes(parent, model, grown)[0].after
    assert fault.says in told
    assert told.endswith("so the trees answer nearly alone" if name == "contradicting" else "so the trees answer alone")
    trees = replace(model, layer=None).propensity(rows.frame)
    np.testing.assert_allclose(model.propensity(rows.frame), trees, atol=0.03 if name == "contradicting" else 1e-6)
    Predictor(name, replace(parent, model=model))
    share, labels = (REGISTRY.get_sample_value(f"offers_layer_{what}", {"model": name}) for what in ("share", "labels"))
    assert share == pytest.approx(0, abs=0.03)
    assert labels == model.layer.labels


def tensor(name: str, values: list, kind: str = "", shape: list | None = None) -> dict:
    return {"name": name, "datatype": kind or INPUTS[name], "shape": shape or [len(values)], "data": values}


def tensors(**changed: dict) -> dict:
    """A V2 request of one good row, with some tensors replaced."""
    return {"inputs": list(({name: tensor(name, [value]) for name, value in GOOD.items()} | changed).values())}


def triton(protocol: str, service: Service, columns: dict) -> dict:
    address = f"127.0.0.1:{service.grpc_port if protocol == 'grpc' else service.http_port}"
    call = command("tests.support.triton_client", protocol, address, "shop")
    done = subprocess.run(
        call, input=json.dumps({"columns": columns}), capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_golden_rows_through_v1(client: httpx.Client, golden: dict) -> None:
    answer = client.post(PREDICT, json={"instances": golden["rows"]})
    assert answer.status_code == 200
    assert answer.json() == {"predictions": golden["propensity"]}


def test_golden_rows_through_v2_json(client: httpx.Client, golden: dict) -> None:
    sent = {name: [row[name] for row in golden["rows"]] for name in INPUTS}
    request = {"id": "seven", "inputs": [tensor(name, values) for name, values in sent.items()]}
    answer = client.post(INFER, json=request).json()
    assert answer["id"] == "seven"
    assert answer["outputs"] == [
        {"name": "propensity", "shape": [len(golden["rows"])], "datatype": "FP64", "data": golden["propensity"]}
    ]


def test_golden_rows_through_v2_json_as_columns_of_width_one(client: httpx.Client, golden: dict) -> None:
    n_rows = len(golden["rows"])
    sent = {name: [[row[name]] for row in golden["rows"]] for name in INPUTS}
    request = {"inputs": [tensor(name, values, shape=[n_rows, 1]) for name, values in sent.items()]}
    assert client.post(INFER, json=request).json()["outputs"][0]["data"] == golden["propensity"]


@pytest.mark.parametrize("protocol", ["grpc", "http", "http-json"])
def test_golden_rows_through_tritonclient(
    protocol: str, service: Service, golden: dict, columns: dict, shop_bundle: Path
) -> None:
    answer = triton(protocol, service, columns)
    assert answer.get("propensity") == golden["propensity"], answer
    metadata = answer["metadata"]
    assert metadata["name"] == "shop"
    assert metadata["versions"] == [shop_bundle.name]
    assert [item["name"] for item in metadata["inputs"]] == list(INPUTS)
    assert [item["datatype"] for item in metadata["inputs"]] == list(INPUTS.values())


async def _through_kserve_rest(service: Service, columns: dict[str, Any], binary: bool) -> np.ndarray:
    from kserve import InferenceRESTClient, RESTConfig

    request = InferRequest("shop", inputs(columns, binary), parameters={"binary_data_output": binary})
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_ready(service.url)
        assert await client.is_model_ready(service.url, "shop")
        answer = await client.infer(service.url, request, model_name="shop")
    return answer.outputs[0].as_numpy()


@pytest.mark.parametrize("binary", [True, False])
def test_golden_rows_through_kserves_rest_client(service: Service, golden: dict, columns: dict, binary: bool) -> None:
    got = asyncio.run(_through_kserve_rest(service, columns, binary))
    assert got.tobytes() == np.array(golden["propensity"]).tobytes()


@pytest.mark.parametrize("protocol", ["predict", "explain"])
def test_golden_rows_through_kserves_v1_client(service: Service, golden: dict, protocol: str) -> None:
    from kserve import InferenceRESTClient, RESTConfig

    async def ask() -> dict[str, Any]:
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            ask = client.infer if protocol == "predict" else client.explain
            return await ask(service.url, data={"instances": golden["rows"]}, model_name="shop")

    answer = asyncio.run(ask())
    got = answer.get("predictions") or [row["propensity"] for row in answer["explanations"]]
    assert got == golden["propensity"]


@pytest.mark.parametrize("binary", [True, False])
def test_golden_rows_through_kserves_grpc_client(
    service: Service, golden: dict, columns: dict, binary: bool, shop_bundle: Path
) -> None:
    from kserve import InferenceGRPCClient

    async def ask() -> InferResponse:
        async with InferenceGRPCClient(f"127.0.0.1:{service.grpc_port}") as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("shop")
            return await client.infer(InferRequest("shop", inputs(columns, binary), request_id="nine"))

    answer = asyncio.run(ask())
    assert answer.outputs[0].as_numpy().tobytes() == np.array(golden["propensity"]).tobytes()
    assert (answer.id, answer.model_version) == ("nine", shop_bundle.name)


def test_a_large_request_scores_as_its_rows_one_by_one(client: httpx.Client, golden: dict) -> None:
    rows = golden["rows"] * 40
    assert client.post(PREDICT, json={"instances": rows}).json()["predictions"] == golden["propensity"] * 40


def test_charset_in_the_content_type(client: httpx.Client, golden: dict) -> None:
    body = json.dumps({"instances": golden["rows"][:1]})
    for kind in ("application/json; charset=utf-8", "application/json;charset=UTF-8", "text/plain"):
        answer = client.post(PREDICT, content=body, headers={"content-type": kind})
        assert answer.json() == {"predictions": golden["propensity"][:1]}


def test_contributions_sum_to_the_margin_and_calibrate_to_the_propensity(client: httpx.Client, golden: dict) -> None:
    answer = client.post(EXPLAIN, json={"instances": golden["rows"]}).json()
    assert [row["propensity"] for row in answer["explanations"]] == golden["propensity"]
    for row in answer["explanations"]:
        assert list(row["contributions"]) == list(INPUTS)
        assert row["bias"] + sum(row["contributions"].values()) == pytest.approx(row["margin"], abs=1e-5)
        assert expit(row["margin"]) == row["propensity"]


def test_contributions_are_the_effect_of_a_feature(client: httpx.Client) -> None:
    def channel(name: str) -> float:
        answer = client.post(EXPLAIN, json={"instances": [GOOD | {"channel": name}]}).json()
        return answer["explanations"][0]["contributions"]["channel"]

    assert channel("web") > channel("mail")


def test_metadata_names_columns_labels_ranges_and_the_bundle(client: httpx.Client, shop_bundle: Path) -> None:
    answer = client.get("/v2/models/shop").json()
    assert (answer["platform"], answer["versions"]) == ("offers_xgboost", [shop_bundle.name])
    by_name = {item["name"]: item for item in answer["inputs"]}
    assert by_name["spending"] == {
        "name": "spending",
        "datatype": "FP64",
        "shape": [-1],
        "parameters": {"min": 0, "max": 10000, "unit": "EUR", "may_be_missing": False},
    }
    assert by_name["channel"]["parameters"] == {"labels": ["mail", "phone", "web"], "may_be_missing": False}
    assert answer["outputs"] == [
        {"name": "propensity", "datatype": "FP64", "shape": [-1]},
        {"name": "contributions", "datatype": "FP64", "shape": [-1, 6]},
    ]
    assert client.get(f"/v2/models/shop/versions/{shop_bundle.name}").json() == answer


@pytest.mark.parametrize("path", ["", "/ready"])
def test_another_version_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/v2/models/shop/versions/shop-0{path}")
    assert answer.status_code == 404
    assert "version 'shop-0'" in answer.json()["error"]


BAD_BODIES = {
    "not JSON": (b"{", "the body: expected JSON in UTF-8, got 1 bytes that are not"),
    "no bytes": (b"", "the body: expected JSON in UTF-8, got 0 bytes"),
    "not UTF-8": (b"\xff\xfe", "the body: expected JSON in UTF-8, got 2 bytes"),
    "UTF-16": ('{"instances": []}'.encode("utf-16"), "the body: expected JSON in UTF-8, got 36 bytes"),
    "nested deeply": (b"[" * 100_000 + b"NaN", "the body: expected JSON in UTF-8, got 100003 bytes"),
    "a list": (b"[]", "the body: expected a JSON object, got a list"),
}
BAD_V1 = {
    "no instances": (b"{}", "the body: expected a list of objects as 'instances', but it is missing"),
    "something else": (b'{"instances": [], "k": 3}', "the body: expected 'instances' alone, got 'k' too"),
    "instances of another kind": (b'{"instances": {}}', "'instances': expected a list of objects, got an object"),
    "no rows": (b'{"instances": []}', "'instances': expected at least one row, got none"),
    "rows as lists": (b'{"instances": [[1]]}', "row 1: expected an object with a value per column, got a list"),
    "a column less": (b'{"instances": [{}]}', "column 'spending', row 1: expected a value, but it is missing"),
    "a column more": ({"minutes": 3}, "column 'minutes', row 1: not an input of this model; expected spending, visits"),
    "wrong type": ({"spending": "12"}, "column 'spending', row 1: expected a number, got '12'"),
    "out of range": ({"spending": -1}, "column 'spending', row 1: expected at least 0, got -1"),
    "unknown category": ({"channel": "fax"}, "column 'channel', row 1: expected one of mail, phone, web, got 'fax'"),
    "null": ({"channel": None}, "column 'channel', row 1: expected one of mail, phone, web, got null"),
    "NaN": ({"spending": math.nan}, "column 'spending', row 1: expected a number, got NaN"),
    "Infinity": ({"rating": math.inf}, "column 'rating', row 1: expected a number, got Infinity"),
}
BAD_V2 = {
    "no inputs": (b"{}", "the body: expected a list as 'inputs', but it is missing"),
    "inputs of another kind": (b'{"inputs": 3}', "the body: expected a list as 'inputs', got 3"),
    "an input of another kind": (b'{"inputs": [3]}', "inputs[0]: expected an object, got 3"),
    "an input without name": (b'{"inputs": [{}]}', "inputs[0]: expected text as 'name', but it is missing"),
    "a long name": (
        {"inputs": [{"name": "x" * 60_000}]},
        f"column '{'x' * 60}…': expected a list as 'shape', but it is missing",
    ),
    "a long name without data": (
        {"inputs": [{"name": "x" * 60_000, "shape": [1], "datatype": "FP64"}]},
        f"column '{'x' * 60}…': 'binary_data_size': expected 0 to 0 bytes",
    ),
    "a whole float for an INT64": (
        tensors(visits=tensor("visits", [42.0], "INT64")),
        "column 'visits', row 1: expected INT64, got 42.0",
    ),
    "a shape of another kind": (tensors(visits={"name": "visits", "shape": 3}), "column 'visits': expected a list as"),
    "a datatype of another kind": (
        tensors(visits={"name": "visits", "shape": [1], "datatype": 3}),
        "column 'visits': expected text as 'datatype', got 3",
    ),
    "data of another kind": (
        tensors(visits={"name": "visits", "shape": [1], "datatype": "INT8", "data": "3"}),
        "column 'visits': expected a list as 'data', got '3'",
    ),
    "parameters of another kind": (tensors(visits=tensor("visits", [3]) | {"parameters": 3}), "column 'visits': exp"),
    "no data": (
        tensors(visits={"name": "visits", "shape": [1], "datatype": "INT8"}),
        "column 'visits': 'binary_data_size': expected 0 to 0 bytes behind the JSON, got null",
    ),
    "an id of another kind": (tensors() | {"id": 3}, "'id': expected text, got 3"),
    "a long id": (tensors() | {"id": "x" * 129}, "'id': expected at most 128 characters, got 129"),
    "an id that no answer could hold": (
        tensors(rating=tensor("rating", [math.nan])) | {"id": "x\ud800"},
        "the body: expected JSON in UTF-8",
    ),
    "an output twice": (tensors() | {"outputs": [{"name": "propensity"}] * 2000}, "'outputs': expected one, got 2000"),
    "an unknown output": (
        tensors() | {"outputs": [{"name": "score"}]},
        "'outputs': expected 'propensity' or 'contributions', got 'score'",
    ),
    "another shape": (tensors(visits=tensor("visits", [3], "", [2])), "column 'visits': expected 1 rows as column 'sp"),
    "too wide": (tensors(visits=tensor("visits", [3, 3], "", [1, 2])), "column 'visits': expected shape [n] or [n, 1]"),
    "more values than rows": (tensors(visits=tensor("visits", [3, 3], "", [1])), "column 'visits': expected 1 values"),
    "unknown column": (tensors(minutes=tensor("minutes", [3], "INT8")), "column 'minutes': not an input of this model"),
    "missing column": ({"inputs": tensors()["inputs"][1:]}, "column 'spending': expected a value, but it is missing"),
    "a column twice": ({"inputs": tensors()["inputs"] * 2}, "column 'spending': expected one tensor, got 2"),
    "unknown datatype": (tensors(visits=tensor("visits", [3], "STRING")), "column 'visits': expected datatype FP64"),
    "wrong datatype": (tensors(channel=tensor("channel", [1], "INT64")), "column 'channel': expected datatype BYTES"),
    "unknown category": (tensors(channel=tensor("channel", ["fax"])), "column 'channel', row 1: expected one of mail"),
    "out of range": (tensors(visits=tensor("visits", [51])), "column 'visits', row 1: expected at most 50, got 51"),
}


def _body(sent: bytes | dict[str, Any]) -> bytes:
    if isinstance(sent, bytes):
        return sent
    return json.dumps({"instances": [GOOD | sent]} if "inputs" not in sent else sent).encode()


@pytest.mark.parametrize("path", [PREDICT, EXPLAIN, INFER])
@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_is_no_request(case: Any, path: Any, client: httpx.Client) -> None:
    refused(client.post(path, content=BAD_BODIES[case][0]), BAD_BODIES[case][1])


@pytest.mark.parametrize("path", [PREDICT, EXPLAIN])
@pytest.mark.parametrize("case", BAD_V1)
def test_a_malformed_v1_request(case: Any, path: Any, client: httpx.Client) -> None:
    sent, sentence = BAD_V1[case]
    refused(client.post(path, content=_body(sent)), sentence)


@pytest.mark.parametrize("case", BAD_V2)
def test_a_malformed_v2_request(case: Any, client: httpx.Client) -> None:
    sent, sentence = BAD_V2[case]
    refused(client.post(INFER, content=_body(sent)), sentence)


def refused(answer: httpx.Response, sentence: str, status: int = 400) -> None:
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(sentence)
    assert len(answer.text) < 500


@pytest.mark.parametrize("length", ["-1", "x", "9999", "1e3", "²", "", "9" * 5000])
def test_a_wrong_length_of_the_json_part(length: str, client: httpx.Client) -> None:
    headers = [(b"inference-header-content-length", length.encode())]
    refused(
        client.post(INFER, content=b"{}", headers=headers), "header inference-header-content-length: expected 0 to 2"
    )


@pytest.mark.parametrize(
    ("size", "tail", "sentence"),
    [
        (8, b"1234567", "column 'spending': 'binary_data_size': expected 0 to 7 bytes behind the JSON, got 8"),
        (-8, b"", "column 'spending': 'binary_data_size': expected 0 to 0 bytes behind the JSON, got -8"),
        (True, b"1", "column 'spending': 'binary_data_size': expected 0 to 1 bytes behind the JSON, got true"),
        (7, b"1234567", "column 'spending': expected 8 bytes for 1 values of FP64, got 7"),
        (8, struct.pack("<d", 1) + b"more", "the body: expected no bytes behind the tensors, got 4"),
    ],
)
def test_binary_tensors_that_do_not_fit_their_bytes(
    size: bool | int, tail: Any, sentence: str, client: httpx.Client
) -> None:
    binary = {"name": "spending", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": size}}
    body = json.dumps(tensors(spending=binary)).encode()
    headers = {"inference-header-content-length": str(len(body))}
    refused(client.post(INFER, content=body + tail, headers=headers), sentence)


def test_too_many_rows_to_explain(client: httpx.Client) -> None:
    refused(client.post(EXPLAIN, json={"instances": [GOOD] * 1001}), "'instances': expected at most 1000 rows", 413)


def test_too_many_rows(client: httpx.Client) -> None:
    refused(client.post(PREDICT, json={"instances": [GOOD] * 2001}), "'instances': expected at most 2000 rows", 413)
    sent = {"inputs": [tensor(name, [value] * 2001) for name, value in GOOD.items()]}
    refused(client.post(INFER, json=sent), "the tensors: expected at most 2000 rows in a request, got 2001", 413)


BAD_TENSORS = {
    "another datatype": (tensor("visits", [3], "FP128"), "column 'visits': expected datatype BOOL, BYTES, INT8"),
    "unknown category": (tensor("channel", [b"fax"]), "column 'channel', row 1: expected one of mail, phone, web, got"),
    "too wide": (tensor("visits", [3.0, 3.0], "", [1, 2]), "column 'visits': expected shape [n] or [n, 1], got [1, 2]"),
    "NaN": (tensor("spending", [math.nan]), "column 'spending', row 1: expected a number, got NaN"),
    "no values": (tensor("spending", [], "", [1]), "column 'spending': expected 1 values as shape [1] says, got 0"),
    "unknown column": (tensor("minutes", [3.0], "FP64"), "column 'minutes': not an input of this model"),
}
CONTENTS = {"FP64": "fp64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents", "FP128": "fp64_contents"}


def infer_by_grpc(service: Service, request: messages.ModelInferRequest) -> messages.ModelInferResponse:
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        return infer(request, timeout=DEADLINE)


def grpc_request(changed: dict[str, Any], model: str = "shop", **other: str) -> messages.ModelInferRequest:
    good = {name: tensor(name, [value]) for name, value in GOOD.items()}
    good["rating"]["data"] = [math.nan]
    sent = []
    for item in (good | {changed["name"]: changed}).values():
        values = [value.encode() if isinstance(value, str) else value for value in item["data"]]
        contents = {CONTENTS[item["datatype"]]: values}
        sent.append({key: item[key] for key in ("name", "datatype", "shape")} | {"contents": contents})
    return messages.ModelInferRequest(model_name=model, inputs=sent, **other)


def refused_by_grpc(
    service: Service,
    request: messages.ModelInferRequest,
    sentence: str,
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        infer_by_grpc(service, request)
    assert error.value.code() == code
    assert error.value.details().startswith(sentence)


MISPLACED = {
    "in two fields": (
        "INT32",
        {"int_contents": [3], "fp64_contents": [4.0]},
        "INT32 in int_contents alone, got some in fp64",
    ),
    "in another field": ("INT64", {"int_contents": [3]}, "INT64 in int64_contents alone, got some in int_contents"),
    "of 16 bits": ("FP16", {"fp32_contents": [3]}, "FP16 in raw_input_contents alone, got some in fp32_contents"),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_values_in_a_field_where_they_are_not_read(case: Any, service: Service) -> None:
    kind, contents, sentence = MISPLACED[case]
    request = grpc_request(tensor("visits", [3.0]))
    request.inputs[1].MergeFrom(messages.ModelInferRequest.InferInputTensor(datatype=kind))
    request.inputs[1].contents.CopyFrom(messages.InferTensorContents(**contents))
    refused_by_grpc(service, request, f"column 'visits': expected values of {sentence}")


@pytest.mark.parametrize("contents", [{}, {"fp64_contents": [3.0]}])
def test_contents_beside_raw_contents(contents: dict[str, Any], service: Service) -> None:
    inputs = [{"name": "x" * 20_000, "datatype": "FP64", "shape": [1], "contents": contents}]
    request = messages.ModelInferRequest(model_name="shop", inputs=inputs, raw_input_contents=[b"\0" * 8])
    sentence = f"column '{'x' * 60}…': expected values of FP64 in raw_input_contents alone, got some in "
    refused_by_grpc(service, request, sentence)


def test_names_by_grpc_are_cut(service: Service) -> None:
    long, cut = "x" * 20_000, f"'{'x' * 60}…'"
    missing = grpc.StatusCode.NOT_FOUND
    refused_by_grpc(service, messages.ModelInferRequest(model_name=long), f"Model with name {cut} does not", missing)
    version = messages.ModelInferRequest(model_name="shop", model_version=long)
    refused_by_grpc(service, version, f"Model with name 'shop', version {cut} (here is version 'shop-", missing)
    strange = messages.ModelInferRequest(model_name="shop", inputs=[{"name": long, "datatype": long}])
    refused_by_grpc(service, strange, f"column {cut}: expected datatype BOOL, BYTES, INT8")
    request = grpc_request(tensor("visits", [3.0]), id=long)
    refused_by_grpc(service, request, "'id': expected at most 128 characters, got 20000")


def test_grpc_takes_plain_contents(service: Service, client: httpx.Client) -> None:
    answer = infer_by_grpc(service, grpc_request(tensor("visits", [3.0])))
    expected = client.post(PREDICT, json={"instances": [GOOD]}).json()["predictions"]
    assert list(answer.outputs[0].contents.fp64_contents) == expected


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_a_malformed_grpc_request(case: Any, service: Service) -> None:
    changed, sentence = BAD_TENSORS[case]
    refused_by_grpc(service, grpc_request(changed), sentence)


def test_grpc_knows_no_other_model_and_no_other_version(service: Service) -> None:
    for other in ({"model": "cart"}, {"model_version": "shop-0"}):
        with pytest.raises(grpc.RpcError) as error:
            infer_by_grpc(service, grpc_request(tensor("visits", [3.0]), **other))
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_tritonclient_gets_the_same_sentence_by_grpc_and_http(service: Service, columns: dict) -> None:
    columns = columns | {"channel": ("BYTES", ["fax"] * len(columns["channel"][1]))}
    sentence = "column 'channel', row 1: expected one of mail, phone, web, got 'fax'"
    assert triton("grpc", service, columns)["error"] == ["StatusCode.INVALID_ARGUMENT", sentence]
    assert triton("http", service, columns)["error"] == ["400", sentence]


def test_rows_and_the_bundle_are_counted(client: httpx.Client, shop_bundle: Path) -> None:
    def rows() -> float:
        lines = client.get("/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith('offers_rows_total{model="shop"}'))

    client.post(PREDICT, json={"instances": [GOOD]})
    before = rows()
    client.post(PREDICT, json={"instances": [GOOD] * 3})
    client.post(PREDICT, json={"instances": [{}] * 3})
    assert rows() - before == 3
    assert f'offers_model_version_info{{model="shop",version="{shop_bundle.name}"}} 1.0' in client.get("/metrics").text


def test_a_broken_bundle_is_never_served(shop_bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(shop_bundle, tmp_path / "models")
    (broken / "golden.json").write_text((broken / "golden.json").read_text().replace("0.", "0.0", 1))
    done = subprocess.run(
        command("serving.predictor", "--bundle", broken, "--http_port", 0, "--grpc_port", 0),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "golden.json was changed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_service_listens_on_loopback_alone(service: Service) -> None:
    listening = [c.laddr for c in psutil.Process(service.process.pid).net_connections() if c.status == "LISTEN"]
    assert {(address.ip.removeprefix("::ffff:"), address.port) for address in listening} == {
        ("127.0.0.1", service.http_port),
        ("127.0.0.1", service.grpc_port),
    }


def test_a_model_can_be_asked_without_a_server(predictor: Predictor, golden: dict, columns: dict) -> None:
    answer, _ = asyncio.run(predictor({"instances": golden["rows"]}))
    assert answer == {"predictions": golden["propensity"]}
    answer, _ = asyncio.run(predictor(InferRequest("shop", inputs(columns, binary=True), request_id="one")))
    (output,) = answer.outputs
    assert isinstance(output, InferOutput)
    assert output.data.tobytes() == np.array(golden["propensity"]).tobytes()


def test_many_rows_are_scored_beside_the_event_loop(shop_bundle: Path, golden: dict) -> None:
    class Watched(Predictor):
        def _score(self, rows: Rows) -> np.ndarray:
            threads.append(threading.current_thread())
            return super()._score(rows)

    threads: list[threading.Thread] = []
    watched = Watched("shop", bundles.load(shop_bundle))
    for n_rows in (INLINE_ROWS, INLINE_ROWS + 1):
        columns = {name: (kind, [GOOD[name]] * n_rows) for name, kind in INPUTS.items()}
        instances = [GOOD] * n_rows
        asyncio.run(watched(InferRequest("shop", inputs(columns, binary=False))))
        asyncio.run(watched({"instances": instances}))
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, True, False, False]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
NESTED = st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=4), SCALARS)
JSON = SCALARS | NESTED | st.lists(NESTED, max_size=2)
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(list(INPUTS)) | JSON},
    optional={
        "shape": st.lists(st.integers(-1, 3), max_size=2) | JSON,
        "datatype": st.sampled_from(["FP64", "INT8", "BOOL", "BYTES"]) | JSON,
        "data": st.lists(SCALARS, max_size=3) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}) | JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(TENSOR | JSON, max_size=7) | JSON,
        "instances": st.lists(st.dictionaries(st.sampled_from(list(INPUTS)), JSON) | JSON, max_size=2) | JSON,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.just("propensity") | JSON}), max_size=2) | JSON,
        "parameters": JSON,
        "id": JSON,
    },
)


@given(
    path=st.sampled_from([PREDICT, EXPLAIN, INFER]),
    body=st.binary(max_size=30) | st.builds(json.dumps, REQUEST | JSON).map(str.encode),
    tail=st.binary(max_size=20),
    declares=st.booleans(),
)
def test_no_body_is_a_fault_of_ours(path: Any, body: Any, tail: Any, declares: Any, application: ASGIApp) -> None:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"inference-header-content-length": str(len(body))} if declares else {}
            return await client.post(path, content=body + (tail if declares else b""), headers=headers)

    answer = asyncio.run(post())
    assert answer.status_code in (200, 400)
    assert list(answer.json()) == ["error"] or answer.status_code == 200


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--grpc_port", "99999"], "argument --grpc_port: expected a whole number from 0 to 65535, got '99999'"),
        (["--http_port", "-1"], "argument --http_port: expected a whole number from 0 to 65535, got '-1'"),
        (["--http_port", "²"], "argument --http_port: expected a whole number from 0 to 65535, got '²'"),
        (["--max_rows", "0"], "argument --max_rows: expected a whole number from 1 to 1000000, got '0'"),
        (["--name", "a/b:c"], "argument --name: expected 1 to 128 letters, digits, '.', '_' and '-', a letter or"),
        (
            ["--name", ""],
            "argument --name: expected 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first",
        ),
        (["--port", "1"], "unrecognized arguments: --port 1"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[Any], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["predictor", "--bundle", "nowhere", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith(f"predictor: {sentence}")
    assert len(said.err.splitlines()) == 1
