"""Ports and the HTTP server that a service process listens with."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from offers.errors import ServiceError


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


class Uvicorn(uvicorn.Server):
    """Leaves the signals to the service: uvicorn would end the process by raising the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
