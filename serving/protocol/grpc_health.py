"""gRPC's own health service, which gateways and probes ask, about the models of a data plane."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

from offers.wording import shown
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import ServerNotReady

INFERENCE = "inference.GRPCInferenceService"
WATCH_SECONDS = 1.0


class Health(HealthServicer):
    """Says of the server, of its inference service and of each model by name whether it serves."""

    def __init__(self, plane: ServicePlane) -> None:
        self.plane = plane

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        if (status := await self._status(request.service)) == HealthCheckResponse.SERVICE_UNKNOWN:
            expected = ", ".join(["''", repr(INFERENCE), *map(repr, self.plane.model_registry.get_models())])
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"'service': expected one of {expected}, got {shown(request.service)}"
            )
        return HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: N802
        last = None
        while not context.done():
            if (status := await self._status(request.service)) != last:
                last = status
                yield HealthCheckResponse(status=status)
            await asyncio.sleep(WATCH_SECONDS)

    async def _status(self, service: str) -> Any:
        if service not in ("", INFERENCE, *self.plane.model_registry.get_models()):
            return HealthCheckResponse.SERVICE_UNKNOWN
        try:
            ready = await self.plane.ready()
        except ServerNotReady:
            ready = False
        return HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
