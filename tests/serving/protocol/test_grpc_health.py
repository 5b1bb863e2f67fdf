"""gRPC's health and reflection services, as their own clients ask them."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.process.server import Address, Server
from serving.protocol.kserve import Model

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Constant(Model):
    platform, version = "test", "1"

    def __init__(self) -> None:
        super().__init__("constant")
        self.ready = True


def test_health_follows_the_model_and_the_drain() -> None:
    async def run() -> None:
        model = Constant()
        server = Server([model], grace=1)
        address = await server.start(Address(http_port=0, grpc_port=0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{address.grpc_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            async def check(service: str) -> int:
                return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)

            for service in ("", "inference.GRPCInferenceService", "constant"):
                assert await check(service) == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await check("nobody")
            assert error.value.code() == grpc.StatusCode.NOT_FOUND
            watch = stub.Watch(health_pb2.HealthCheckRequest(service="constant"))
            assert (await watch.read()).status == SERVING
            model.ready = False
            assert (await watch.read()).status == NOT_SERVING
            assert await check("") == NOT_SERVING
            model.ready = True
            server.plane.drain()
            assert await check("") == NOT_SERVING
            watch.cancel()
        await server.stop()

    asyncio.run(run())


def test_reflection_tells_the_services_and_their_messages() -> None:
    async def run() -> None:
        server = Server([Constant()], grace=1)
        address = await server.start(Address(http_port=0, grpc_port=0))
        names = await asyncio.to_thread(_described, address.grpc_port)
        assert names == {"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"}
        await server.stop()

    asyncio.run(run())


def _described(port: int) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        listed = {
            service.name for service in next(stub.ServerReflectionInfo(iter([asked]))).list_services_response.service
        }
        assert {"grpc.health.v1.Health", "inference.GRPCInferenceService"} <= listed
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = pool.FindServiceByName("inference.GRPCInferenceService")
        return {method.name for method in service.methods if not method.name.startswith("Repository")}
