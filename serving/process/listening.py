"""Ports, and the HTTP server that a service listens with."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn

from offers.errors import ServiceError
from serving.process.connection import Connection, Limits, Waiting
from serving.process.edge import Edge

LINGER_SECONDS = 3.0
LIMITS = Limits()
_RESERVE = 100
"""File descriptors for all that is no connection of a caller."""
_BACKLOG = 2048


@dataclass(frozen=True)
class Tls:
    """Certificate chain and key, as PEM files; a file of `authorities` asks callers for a certificate of theirs."""

    certificate: Path
    key: Path
    authorities: Path | None = None

    def __post_init__(self) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ServiceError(
                f"{self.certificate}, {self.key}: expected a certificate and its key in PEM form ({error})"
            ) from None

    def of_grpc(self) -> Any:
        """The same as gRPC's server takes it."""
        import grpc

        authorities = self.authorities.read_bytes() if self.authorities else None
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)


def bound(host: str, port: int) -> socket.socket:
    """Take a port, 0 stands for a free one, without listening yet: callers are refused until they can be answered.

    Raises
    ------
    ServiceError
        the port is taken, or the host is not one of this machine
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise port_taken(host, port, error.strerror or str(error)) from None
    return listener


def port_taken(host: str, port: int, reason: str) -> ServiceError:
    """Build the error of a port that can't be had."""
    return ServiceError(f"can't listen on port {port} of {host}: {reason}; name another port, or 0 for a free one")


class HttpServer:
    """Serves an edge until it is stopped.

    Parameters
    ----------
    linger : seconds at the end in which open connections still get answers, each of which closes its connection: so
        the peer knows, and sends its next request elsewhere
    grace : seconds for what is under way then
    """

    def __init__(
        self,
        edge: Edge,
        limits: Limits = LIMITS,
        linger: float = LINGER_SECONDS,
        grace: float = 30,
        tls: Tls | None = None,
    ) -> None:
        self.edge, self.linger = edge, linger
        limits = replace(limits, connections=min(limits.connections, _descriptors() - _RESERVE))
        files: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key} if tls else {}
        if tls and tls.authorities:
            files |= {"ssl_ca_certs": tls.authorities, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        config = uvicorn.Config(
            edge,
            http=cast(Any, partial(Connection, limits, Waiting())),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            # Nothing here asks for a caller's address, so no header needs to be believed.
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle_seconds),
            timeout_graceful_shutdown=int(grace),
            **files,
        )
        self._server = _Uvicorn(config)

    def start(self, listener: socket.socket) -> None:
        """Begin to listen.

        Raises
        ------
        ServiceError
            another process listens already
        """
        host, port = listener.getsockname()[:2]
        try:
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise port_taken(host, port, error.strerror or str(error)) from None
        self._serving = asyncio.create_task(self._server.serve([listener]))

    async def stop(self) -> None:
        """Let callers go elsewhere, answer what is under way, then close."""
        self.edge.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.linger):
                while self._server.server_state.connections:
                    await asyncio.sleep(0.05)
        self._server.should_exit = True
        await self._serving


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to the service: uvicorn would end the process by raising the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _descriptors() -> int:
    """How many files may be open: as many as the system lets us ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if hard != resource.RLIM_INFINITY else max(soft, 65_536)
    if soft != limit:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(2 * _RESERVE, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
