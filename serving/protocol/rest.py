"""The V1 and V2 protocols over HTTP, around KServe's data plane.

KServe's own endpoints turn half of the malformed requests into a 500, take bodies of any size, know JSON by the
exact text of a header only, and let anybody unload a model.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from prometheus_client import REGISTRY
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from offers.errors import RequestError
from offers.wording import shown
from serving.process.edge import Edge, Endpoint, label, metrics
from serving.process.edge import application as build
from serving.process.telemetry import touch
from serving.protocol.dataplane import ServicePlane
from serving.protocol.docs import HEADERS, PAGE
from serving.protocol.failures import KINDS
from serving.protocol.kserve import (
    InferInput,
    InferRequest,
    InferResponse,
    Model,
    ModelNotReady,
    RequestedOutput,
    ServerNotReady,
)
from serving.protocol.openapi import document
from serving.protocol.payload import check_id

JSON_LENGTH = "inference-header-content-length"
_INLINE_BYTES = 64 * 1024
_MODEL, _VERSION = "/models/{model_name:model}", "/versions/{model_version}"


def application(plane: ServicePlane) -> Edge:
    """Build the application that answers for the models of a data plane."""
    rest = _Rest(plane)
    gets: dict[str, Endpoint] = {
        "/": rest.alive,
        "/docs": rest.docs,
        "/metrics": metrics(REGISTRY),
        "/openapi.json": rest.openapi,
        "/v1/models": rest.models,
        f"/v1{_MODEL}": rest.model_ready,
        "/v2": rest.server,
        "/v2/models": rest.models,
        "/v2/health/live": rest.live,
        "/v2/health/ready": rest.ready,
        **{f"/v2{_MODEL}{part}": rest.model_metadata for part in ("", _VERSION)},
        **{f"/v2{_MODEL}{part}/ready": rest.model_ready for part in ("", _VERSION)},
    }
    posts: dict[str, Endpoint] = {
        f"/v1{_MODEL}:predict": rest.predict,
        f"/v1{_MODEL}:explain": rest.explain,
        **{f"/v2{_MODEL}{part}/infer": rest.infer for part in ("", _VERSION)},
    }
    for model in plane.model_registry.get_models().values():
        posts |= {path: rest.taking(take) for path, take in getattr(model, "takes", {}).items()}
    for path in posts:
        touch(label(path))
    routes = {("POST", path): endpoint for path, endpoint in posts.items()}
    routes |= {("GET", path): endpoint for path, endpoint in gets.items()}
    return build(routes, {kind: status for kind, (status, _) in KINDS.items()})


class _ModelName(StringConvertor):
    """Else the name in /v1/models/{model_name} would take in ":predict"."""

    regex = "[^/:]+"


register_url_convertor("model", _ModelName())


class _Rest:
    def __init__(self, plane: ServicePlane) -> None:
        self.plane = plane

    async def docs(self, request: Request) -> Response:
        return Response(PAGE, headers=HEADERS, media_type="text/html")

    async def openapi(self, request: Request) -> Response:
        # Made each time: another model may be served by now.
        return _json(document(self.plane.model_registry.get_models().values()))

    async def alive(self, request: Request) -> Response:
        return _json(await self.plane.live())

    async def models(self, request: Request) -> Response:
        return _json({"models": list(self.plane.model_registry.get_models())})

    async def server(self, request: Request) -> Response:
        return _json(self.plane.metadata())

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        if not await self.plane.ready():
            raise ServerNotReady
        degraded = self.plane.degraded
        return _json({"ready": True} | ({"degraded": degraded} if degraded else {}))

    async def model_ready(self, request: Request) -> Response:
        name = self._model(request)
        if not await self.plane.model_ready(name):
            raise ModelNotReady(name)
        return _json({"name": name, "ready": True})

    async def model_metadata(self, request: Request) -> Response:
        return _json(await self.plane.model_metadata(self._model(request)))

    async def predict(self, request: Request) -> Response:
        return await self._v1(request, self.plane.infer)

    async def explain(self, request: Request) -> Response:
        model = await self.plane.get_model(self._model(request))
        if type(model).explain is Model.explain:
            raise HTTPException(404, f"model {model.name!r} explains nothing: ask the predictor's :explain")
        return await self._v1(request, self.plane.explain)

    def taking(self, take: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> Endpoint:
        """An endpoint for JSON objects that are no questions to a model."""

        async def taken(request: Request) -> Response:
            body = await self.plane.bodies.read(request)
            return _json(await take(await _off_loop(len(body), _json_object, body)))

        return taken

    async def infer(self, request: Request) -> Response:
        name = self._model(request)
        await self.plane.get_model(name)
        body, length = await self.plane.bodies.read(request), request.headers.get(JSON_LENGTH)
        payload = await _off_loop(len(body), _v2_request, body, length, name)
        response, _ = await self.plane.infer(name, payload, dict(request.headers))
        content, json_length = response.to_rest()
        if json_length is None:
            return _json(content)
        headers = {JSON_LENGTH: str(json_length), "content-type": "application/octet-stream"}
        return Response(content, headers=headers)

    async def _v1(self, request: Request, answer: Callable[..., Awaitable[tuple[Any, dict[str, str]]]]) -> Response:
        name = self._model(request)
        await self.plane.get_model(name)
        body = await self.plane.bodies.read(request)
        payload = await _off_loop(len(body), _json_object, body)
        response, _ = await answer(name, payload, dict(request.headers))
        if isinstance(response, InferResponse):
            response, _ = response.to_rest()
        return _json(response)

    def _model(self, request: Request) -> str:
        name: str = request.path_params["model_name"]
        self.plane.check_version(name, request.path_params.get("model_version", ""))
        return name


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


async def _off_loop(size: int, parse: Callable[..., Any], *arguments: Any) -> Any:
    """Parse a small body at once, and a large one beside the event loop, where it holds up no health check."""
    return parse(*arguments) if size <= _INLINE_BYTES else await asyncio.to_thread(parse, *arguments)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        content = _lenient(body, error)
    if not isinstance(content, dict):
        raise RequestError(f"the body: expected a JSON object, got {shown(content)}")
    return content


def _lenient(body: bytes, reason: orjson.JSONDecodeError) -> Any:
    """Read what Python's own json module writes: NaN and Infinity, which the schema then judges by field."""
    try:
        if b"NaN" in body or b"Infinity" in body:
            content = json.loads(body)
            json.dumps(content, ensure_ascii=False).encode()
            return content
    except (ValueError, RecursionError):
        pass
    raise RequestError(f"the body: expected JSON in UTF-8, got {len(body)} bytes that are not: {reason}") from None


def _v2_request(body: bytes, json_length: str | None, model: str) -> InferRequest:
    """Read a V2 request: a JSON object, and behind it the bytes of tensors that name their `binary_data_size`."""
    end = len(body)
    if json_length is not None:
        if not re.fullmatch("[0-9]{1,9}", json_length) or int(json_length) > len(body):
            raise RequestError(f"header {JSON_LENGTH}: expected 0 to {len(body)}, got {shown(json_length)}")
        end = int(json_length)
    content = _json_object(body[:end])
    inputs = [_input(item, place) for place, item in enumerate(_list(content, "inputs"))]
    for item in inputs:
        size = item.parameters.get("binary_data_size")
        if item.data is None:
            if type(size) is not int or not 0 <= size <= len(body) - end:
                where = f"column {shown(item.name)}: 'binary_data_size'"
                raise RequestError(f"{where}: expected 0 to {len(body) - end} bytes behind the JSON, got {shown(size)}")
            item._raw_data = body[end : end + size]
            end += size
    if end < len(body):
        raise RequestError(f"the body: expected no bytes behind the tensors, got {len(body) - end}")
    outputs = [
        RequestedOutput(_typed(item, "name", str, f"outputs[{place}]"), _parameters(item, f"outputs[{place}]"))
        for place, item in enumerate(_list(content, "outputs") if content.get("outputs") is not None else [])
    ]
    request_name = content.get("id")
    if not isinstance(request_name, str | None):
        raise RequestError(f"'id': expected text, got {shown(request_name)}")
    check_id(request_name or "")
    return InferRequest(
        model, inputs, request_name, parameters=_parameters(content, "the body"), request_outputs=outputs
    )


def _input(item: Any, place: int) -> InferInput:
    where = f"inputs[{place}]"
    name = _typed(item, "name", str, where)
    where = f"column {shown(name)}"
    data = _typed(item, "data", list, where) if "data" in item else None
    shape, datatype = _typed(item, "shape", list, where), _typed(item, "datatype", str, where)
    return InferInput(name, shape, datatype, data, _parameters(item, where))


def _list(content: dict[str, Any], key: str) -> list[Any]:
    items: list[Any] = _typed(content, key, list, "the body")
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise RequestError(f"{key}[{place}]: expected an object, got {shown(item)}")
    return items


def _parameters(item: dict[str, Any], where: str) -> dict[str, Any]:
    return _typed(item, "parameters", dict, where) if item.get("parameters") is not None else {}


_NOUNS: dict[type, str] = {str: "text", list: "a list", dict: "an object"}


def _typed(item: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if key not in item:
        raise RequestError(f"{where}: expected {_NOUNS[kind]} as {key!r}, but it is missing")
    if not isinstance(item[key], kind):
        raise RequestError(f"{where}: expected {_NOUNS[kind]} as {key!r}, got {shown(item[key])}")
    return item[key]
