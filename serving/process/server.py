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
from pathlib import Path
from typing import NoReturn

import orjson
import uvloop

from offers.errors import OffersError, ServiceError
from offers.http_client import ClientTls
from offers.wording import shown
from serving.process.callers import Callers, Keys, Terms
from serving.process.edge import BODY_SECONDS
from serving.process.listening import LINGER_SECONDS, HttpServer, Tls, bound, port_taken
from serving.process.logs import configure_logging
from serving.process.telemetry import VERSION
from serving.protocol import grpc as rpc
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


@dataclass(frozen=True)
class Door:
    """Who may come in, everybody where `callers` is None, and by which certificate the service is known."""

    callers: Callers | None = None
    tls: Tls | None = None


OPEN_DOOR = Door()


class Server:
    """Serves models until it is stopped.

    Parameters
    ----------
    grace, linger : seconds for the end, see `HttpServer`
    body_seconds : for the whole body of a request to arrive; one when the service stops
    door : who may come in, and by which certificate the service is known
    """

    def __init__(
        self,
        models: list[Model],
        grace: float = 30,
        body_seconds: float = BODY_SECONDS,
        linger: float = LINGER_SECONDS,
        door: Door = OPEN_DOOR,
    ) -> None:
        self.plane = ServicePlane(models, body_seconds)
        self.grace, self.linger, self.door = grace, linger, door
        for model in models:
            VERSION.labels(model.name, model.version).set(1)

    async def start(self, address: Address) -> Address:
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
        listener = bound(address.host, address.http_port)
        http_port = listener.getsockname()[1]
        if self.door.callers:
            await self.door.callers.keys.look()
        admit = self.door.callers.admit if self.door.callers else None
        self._grpc = rpc.server(self.plane, admit)
        grpc_port = self._bind_grpc(address, listener)
        edge = application(self.plane)
        edge.admit = admit
        self._http = HttpServer(edge, linger=self.linger, grace=self.grace, tls=self.door.tls)
        await self._grpc.start()
        self._http.start(listener)
        self.address = Address(address.host, http_port, grpc_port)
        return self.address

    async def stop(self) -> None:
        """Turn unready, tell callers to go elsewhere, answer what is under way, then close."""
        self.plane.drain()
        await self._http.stop()
        await self._grpc.stop(self.grace)

    def _bind_grpc(self, wanted: Address, listener: socket.socket) -> int:
        host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
        address, tls = f"{host}:{wanted.grpc_port}", self.door.tls
        try:
            if tls is None:
                return int(self._grpc.add_insecure_port(address))
            return int(self._grpc.add_secure_port(address, tls.of_grpc()))
        except RuntimeError:
            listener.close()
            raise port_taken(wanted.host, wanted.grpc_port, "it is taken") from None


def parser(name: str, description: str | None, grpc_port: int | None = None) -> argparse.ArgumentParser:
    """What every service can be told on its command line: where to listen, and with gRPC the name of its model."""
    service_parser = _Parser(f"python -m serving.{name}", description=description)
    service_parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    service_parser.add_argument("--http_port", type=whole(0, 65535), default=8080, help="0 for a free one")
    if grpc_port is not None:
        service_parser.add_argument("--name", type=_name, default="offers", help="name of the model in addresses")
        service_parser.add_argument("--grpc_port", type=whole(0, 65535), default=grpc_port, help="0 for a free one")
    service_parser.add_argument("--tls_certificate", type=Path, help="PEM file of the chain that the service shows")
    service_parser.add_argument("--tls_key", type=Path, help="PEM file of its private key")
    service_parser.add_argument(
        "--tls_authorities", type=Path, help="PEM file; callers need a certificate of one of these"
    )
    service_parser.add_argument("--jwks", default="", help="file or address of the keys that sign callers' tokens")
    service_parser.add_argument("--jwks_authorities", type=Path, help="PEM file of whom to trust for that address")
    service_parser.add_argument("--audience", default="offers", help="of callers' tokens")
    service_parser.add_argument("--issuer", default="", help="of callers' tokens; by default any whose keys these are")
    service_parser.add_argument("--caller_claim", default="sub", help="the claim of a token that names the caller")
    service_parser.add_argument(
        "--quota", type=float, default=0.0, help="requests a second for each caller; 0 for any number"
    )
    return service_parser


def door(arguments: argparse.Namespace) -> Door:
    """Build the door that the command line asks for.

    Raises
    ------
    ServiceError
        a file is missing or is not what it should be
    """
    if bool(arguments.tls_certificate) != bool(arguments.tls_key):
        raise ServiceError("--tls_certificate, --tls_key: expected both or none")
    if arguments.quota and not arguments.jwks:
        raise ServiceError("--quota: expected --jwks, too: callers are told apart by their tokens")
    tls = Tls(arguments.tls_certificate, arguments.tls_key, arguments.tls_authorities) if arguments.tls_key else None
    terms = Terms(arguments.audience, arguments.issuer, arguments.caller_claim, arguments.quota)
    issuer = ClientTls(arguments.jwks_authorities)
    return Door(Callers(Keys(arguments.jwks, issuer), terms) if arguments.jwks else None, tls)


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
    address: Address,
    *beside: AbstractAsyncContextManager[object],
    following: Following | None = None,
    door: Door = OPEN_DOOR,
) -> None:
    """Serve until SIGTERM or SIGINT; print one line of JSON with the bound ports when requests are answered.

    What is to run `beside` the models is entered before the first request, and left after the last. What is
    `following` may replace models while requests are answered.
    """
    server = Server(models, door=door)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(server, address, (*beside, *([following(server.plane)] if following else []))))


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
