"""The V2 protocol over gRPC, around KServe's servicer."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc.aio import Server, ServerInterceptor, ServicerContext
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from offers.errors import RequestError
from offers.wording import shown
from serving.process.edge import Admit
from serving.process.logs import caller, request_id
from serving.process.telemetry import REQUEST_ID, observed
from serving.protocol.dataplane import ServicePlane
from serving.protocol.failures import failure
from serving.protocol.grpc_health import INFERENCE, Health
from serving.protocol.kserve import (
    MESSAGE_LIMIT,
    InferenceServicer,
    ModelRepositoryExtension,
    ServerNotReady,
    add_GRPCInferenceServiceServicer_to_server,
    messages,
)
from serving.protocol.payload import check_id

_CONTENTS = {
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP16": "raw_input_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The protocol's datatypes, and the field that holds the values of each."""

_OPEN = {f"/{HEALTH}/Check", f"/{INFERENCE}/ServerLive", f"/{INFERENCE}/ServerReady"}
"""What probes ask without a token."""


def server(plane: ServicePlane, admit: Admit | None = None) -> Server:
    """Build the gRPC server that answers for the models of a data plane; it is not bound to a port yet.

    Parameters
    ----------
    admit : names the caller of each call but those of probes; None lets everybody in
    """
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        # Else two servers share a port, and each gets half of the other's requests.
        ("grpc.so_reuseport", 0),
        # Clients that keep an idle connection alive by pings, from the shortest pause that gRPC lets them have.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 9_000),
    ]
    grpc_server = grpc.aio.server(interceptors=[_Observed(admit)], options=options)
    add_GRPCInferenceServiceServicer_to_server(_Servicer(plane), grpc_server)
    add_HealthServicer_to_server(Health(plane), grpc_server)
    enable_server_reflection((INFERENCE, HEALTH, REFLECTION), grpc_server)
    return grpc_server


class _Servicer(InferenceServicer):
    def __init__(self, plane: ServicePlane) -> None:
        super().__init__(plane, ModelRepositoryExtension(plane.model_registry))
        self.plane = plane

    async def ServerReady(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        return messages.ServerReadyResponse(ready=await _holds(self.plane.ready()))

    async def ModelReady(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        self.plane.check_version(request.name, request.version)
        return messages.ModelReadyResponse(ready=await _holds(self.plane.model_ready(request.name)))

    async def ModelMetadata(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        self.plane.check_version(request.name, request.version)
        described = await self.plane.model_metadata(request.name)
        tensors = {
            side: [{key: tensor[key] for key in ("name", "datatype", "shape")} for tensor in described[side]]
            for side in ("inputs", "outputs")
        }
        return messages.ModelMetadataResponse(**(described | tensors))

    async def ModelInfer(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        self.plane.check_version(request.model_name, request.model_version)
        check_id(request.id)
        raw = bool(request.raw_input_contents)
        for tensor in request.inputs:
            _check(tensor, raw)
        return await super().ModelInfer(request, context)

    async def RepositoryModelLoad(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        raise NotImplementedError("a service keeps the model that it was started with")

    async def RepositoryModelUnload(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        raise NotImplementedError("a service keeps the model that it was started with")


def _check(tensor: Any, raw: bool) -> None:
    """Refuse a tensor whose values are in a field that KServe does not read; it would ignore them silently."""
    if tensor.datatype not in _CONTENTS:
        expected = f"expected datatype {', '.join(_CONTENTS)}"
        raise RequestError(f"column {shown(tensor.name)}: {expected}, got {shown(tensor.datatype)}")
    if not tensor.HasField("contents"):
        return
    expected = "raw_input_contents" if raw else _CONTENTS[tensor.datatype]
    strange = next((field.name for field, _ in tensor.contents.ListFields() if field.name != expected), "")
    if strange or raw:
        sentence = f"expected values of {tensor.datatype} in {expected} alone, got some in {strange or 'contents'}"
        raise RequestError(f"column {shown(tensor.name)}: {sentence}")


async def _holds(question: Awaitable[bool]) -> bool:
    """Whether it is ready; the protocol has no place for the reason why not, which REST tells."""
    try:
        return await question
    except ServerNotReady:
        return False


class _Observed(ServerInterceptor):
    """Gives each call an id, a line in the log, a place in the metrics, and a status code where it fails."""

    def __init__(self, admit: Admit | None) -> None:
        self.admit = admit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        route = handler_call_details.method
        metadata = dict(handler_call_details.invocation_metadata)
        given_id, admit = str(metadata.get(REQUEST_ID, "")), None if route in _OPEN else self.admit

        async def answer(request: Any, context: ServicerContext) -> Any:
            with observed(route, given_id) as request_log:
                trailer = ((REQUEST_ID, request_id.get()),)
                try:
                    if admit is not None:
                        caller.set(await admit(str(metadata.get("authorization", ""))))
                    response = await handler.unary_unary(request, context)
                except Exception as error:
                    refusal = failure(error)
                    request_log.status = refusal.code.name
                    await context.abort(refusal.code, refusal.sentence, trailer)
                context.set_trailing_metadata(trailer)
                request_log.status = "OK"
                return response

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
