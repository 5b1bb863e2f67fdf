"""A process that serves KServe models over REST and gRPC, on loopback unless it is told otherwise."""

import argparse
import asyncio
import contextlib
import gc
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import NoReturn

import orjson
import uvicorn
import uvloop

from offers.errors import OffersError
from offers.wording import shown
from serving.process.listening import Uvicorn, bound, port_taken
from serving.process.logs import configure_logging
from serving.process.telemetry import VERSION
from serving.protocol import grpc as rpc
from serving.protocol.arrivals import BODY_SECONDS
from serving.protocol.dataplane import ServicePlane
from serving.protocol.kserve import Model
from serving.protocol.rest import application

Following = Callable[[ServicePlane], AbstractAsyncContextManager[object]]


@dataclass(frozen=True)
class Address:
    """Where a service listens; port 0 asks for a free one."""

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 8081


class Server:
    """Serves models until it is stopped; answers what is under way then, for at most `grace` seconds.

    The whole body of a request has to arrive within `body_seconds`, and within one when the service stops.
    """

    def __init__(self, models: list[Model], grace: float = 30, body_seconds: float = BODY_SECONDS) -> None:
        self.plane = ServicePlane(models, body_seconds)
        self.grace = grace
        for model in models:
            VERSION.labels(model.name, model.version).set(1)

    async def start(self, wanted: Address) -> Address:
        """Bind both ports and begin to answer.

        Returns
        -------
        Address
            with the ports that were bound

        Raises
        ------
        ServiceError
            a port is taken, or the host is not one of this machine
        """
        listener = bound(wanted.host, wanted.http_port)
        listener.listen(2048)
        http_port = listener.getsockname()[1]
        self._grpc = rpc.server(self.plane)
        grpc_port = self._bind_grpc(wanted, listener)
        config = uvicorn.Config(
            application(self.plane),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=65,
            timeout_graceful_shutdown=int(self.grace),
        )
        self._http = Uvicorn(config)
        await self._grpc.start()
        self._serving = asyncio.create_task(self._http.serve([listener]))
        self.address = Address(wanted.host, http_port, grpc_port)
        return self.address

    async def stop(self) -> None:
        """Turn unready, take no new requests, answer those under way, then close."""
        self.plane.drain()
        self._http.should_exit = True
        await asyncio.gather(self._serving, self._grpc.stop(self.grace))

    def _bind_grpc(self, wanted: Address, listener: socket.socket) -> int:
        host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
        try:
            return int(self._grpc.add_insecure_port(f"{host}:{wanted.grpc_port}"))
        except RuntimeError:
            listener.close()
            raise port_taken(wanted.host, wanted.grpc_port, "it is taken") from None


def parser(name: str, description: str | None, grpc_port: int) -> argparse.ArgumentParser:
    """What every service can be told on its command line: the name of its model, and where to listen."""
    found = _Parser(f"python -m serving.{name}", description=description)
    found.add_argument("--name", type=_name, default="offers", help="name of the model in addresses")
    found.add_argument("--host", default="127.0.0.1", help="address to listen on")
    found.add_argument("--http_port", type=whole(0, 65535), default=8080, help="0 for a free one")
    found.add_argument("--grpc_port", type=whole(0, 65535), default=grpc_port, help="0 for a free one")
    return found


def whole(low: int, high: int) -> Callable[[str], int]:
    """How to read a whole number of a range from the command line."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {shown(text)}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Read a time that somebody waits from the command line."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 600:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected more than 0 and at most 600 seconds, got {shown(text)}")


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence, as `starting` does, and not the usage too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog.rpartition('.')[2]}: {message}\n")


def _name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", text):
        expected = "expected 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first"
        raise argparse.ArgumentTypeError(f"{expected}, got {shown(text)}")
    return text


@contextlib.contextmanager
def starting(name: str) -> Iterator[None]:
    """Log as JSON lines; turn a mistake in what was given into one sentence on standard error and exit code 2."""
    configure_logging()
    try:
        yield
    except OffersError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)


def run(
    models: list[Model],
    wanted: Address,
    *beside: AbstractAsyncContextManager[object],
    following: Following | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; print one line of JSON with the bound ports when requests are answered.

    What is to run `beside` the models is entered before the first request, and left after the last. What is
    `following` may replace models while requests are answered.
    """
    server = Server(models)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(server, wanted, (*beside, *([following(server.plane)] if following else []))))


async def _until_signalled(
    server: Server, wanted: Address, beside: tuple[AbstractAsyncContextManager[object], ...]
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as entered:
        for context in beside:
            await entered.enter_async_context(context)
        address = await server.start(wanted)
        models = server.plane.model_registry.get_models()
        versions = {name: model.version for name, model in models.items()}
        print(orjson.dumps(asdict(address) | {"models": versions}).decode(), flush=True)
        # What lives as long as the process need not be looked through by the collector, which would hold up requests.
        gc.collect()
        gc.freeze()
        await stop.wait()
        await server.stop()
