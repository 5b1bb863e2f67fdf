"""The V2 protocol over gRPC, around KServe's servicer."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc.aio import Server, ServerInterceptor, ServicerContext

from offers.errors import RequestError
from serving.dataplane import ServicePlane
from serving.failures import failure
from serving.protocol import (
    MESSAGE_LIMIT,
    InferenceServicer,
    ModelRepositoryExtension,
    ServerNotReady,
    add_GRPCInferenceServiceServicer_to_server,
    messages,
)
from serving.telemetry import REQUEST_ID, observed, request_id

_WIDTHS = {"INT": (8, 16, 32, 64), "UINT": (8, 16, 32, 64), "FP": (16, 32, 64)}
_DATATYPES = ("BOOL", "BYTES", *(f"{kind}{bits}" for kind, widths in _WIDTHS.items() for bits in widths))


def server(plane: ServicePlane) -> Server:
    """Build the gRPC server that answers for the models of a data plane; it is not bound to a port yet."""
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        # Else two servers share a port, and each gets half of the other's requests.
        ("grpc.so_reuseport", 0),
    ]
    built = grpc.aio.server(interceptors=[_Observed()], options=options)
    add_GRPCInferenceServiceServicer_to_server(_Servicer(plane), built)
    return built


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
        for tensor in request.inputs:
            if tensor.datatype not in _DATATYPES:
                expected = ", ".join(_DATATYPES)
                raise RequestError(f"column {tensor.name!r}: expected datatype {expected}, got {tensor.datatype!r}")
        return await super().ModelInfer(request, context)

    async def RepositoryModelLoad(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        raise NotImplementedError("a service keeps the model that it was started with")

    async def RepositoryModelUnload(self, request: Any, context: ServicerContext) -> Any:  # noqa: N802
        raise NotImplementedError("a service keeps the model that it was started with")


async def _holds(asked: Awaitable[bool]) -> bool:
    """Whether it is ready; the protocol has no place for the reason why not, which REST tells."""
    try:
        return await asked
    except ServerNotReady:
        return False


class _Observed(ServerInterceptor):
    """Gives each call an id, a line in the log, a place in the metrics, and a status code where it fails."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        route = handler_call_details.method
        given_id = str(dict(handler_call_details.invocation_metadata).get(REQUEST_ID, ""))

        async def answer(request: Any, context: ServicerContext) -> Any:
            with observed(route, given_id) as seen:
                trailer = ((REQUEST_ID, request_id.get()),)
                try:
                    response = await handler.unary_unary(request, context)
                except Exception as error:
                    found = failure(error)
                    seen.status = found.code.name
                    await context.abort(found.code, found.sentence, trailer)
                context.set_trailing_metadata(trailer)
                seen.status = "OK"
                return response

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
