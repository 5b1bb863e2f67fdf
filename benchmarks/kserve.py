"""KServe's own ModelServer as it comes, but on loopback and on free ports: what the services are measured against."""

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from grpc import aio

_arguments, sys.argv = sys.argv, sys.argv[:1]
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server  # noqa: E402
from kserve.predictor_config import PredictorConfig  # noqa: E402
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service  # noqa: E402
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor, LoggingInterceptor  # noqa: E402
from kserve.protocol.grpc.server import GRPCServer  # noqa: E402
from kserve.protocol.grpc.servicer import InferenceServicer  # noqa: E402
from kserve.protocol.rest.server import RESTServer  # noqa: E402

sys.argv = _arguments

__all__ = ["InferInput", "InferOutput", "InferRequest", "InferResponse", "Model", "PredictorConfig", "serve"]


def serve(model: Model, predictor: PredictorConfig | None = None) -> None:
    """Serve until SIGTERM; print the bound ports as `tests.support.services` expects them."""
    model_server.RESTServer, model_server.GRPCServer = _Rest, _Grpc
    _Rest.listener.bind(("127.0.0.1", 0))
    _Rest.listener.listen(2048)
    model.load()
    ModelServer(http_port=_Rest.listener.getsockname()[1], workers=1, predictor_config=predictor).start([model])


class _Rest(RESTServer):
    # As asyncio makes one from host and port: without the protocol it leaves Nagle's delay on, 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)

    async def start(self) -> None:
        self.create_application()
        await self._server.serve(sockets=[self.listener])


class _Grpc(GRPCServer):
    """The original's `start`, with an address of loopback in place of [::]."""

    async def start(self, max_workers: int) -> None:
        interceptors = (LoggingInterceptor(), ExceptionToStatusInterceptor())
        limits = ("grpc_max_send_message_length", "grpc_max_receive_message_length")
        options = [(limit.replace("_", ".", 1), self._kwargs[limit]) for limit in limits]
        self._server = aio.server(ThreadPoolExecutor(max_workers), interceptors=interceptors, options=options)
        servicer = InferenceServicer(self._data_plane, self._model_repository_extension)
        service.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        _say({"http_port": _Rest.listener.getsockname()[1], "grpc_port": port})
        await self._server.wait_for_termination()


def _say(bound: dict[str, int]) -> None:
    print(json.dumps(bound), flush=True)
    # KServe writes its access log to standard output, where nobody reads on.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
