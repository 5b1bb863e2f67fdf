"""A process that serves the sidecar until it is told to stop."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Iterator

import uvicorn

from offers.errors import ServiceError
from serving.drift.app import application
from serving.drift.monitor import Monitor


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
        reason = error.strerror or str(error)
        sentence = f"can't listen on port {port} of {host}: {reason}; name another port, or 0 for a free one"
        raise ServiceError(sentence) from None
    return listener


def run(monitor: Monitor, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then save; print one line of JSON with the bound port when events are taken."""
    asyncio.run(_until_signalled(monitor, listener))


async def _until_signalled(monitor: Monitor, listener: socket.socket) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    config = uvicorn.Config(
        application(monitor), log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=10
    )
    server = _Uvicorn(config)
    async with monitor.running():
        listener.listen(128)
        serving = asyncio.create_task(server.serve([listener]))
        host, port = listener.getsockname()[:2]
        print(json.dumps({"host": host, "http_port": port, "bundle": monitor.bundle}), flush=True)
        await stop.wait()
        monitor.draining = True
        server.should_exit = True
        await serving


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: uvicorn would end the process by raising the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
