"""A process that serves the sidecar until it is told to stop."""

import asyncio
import json
import signal
import socket

from serving.drift.monitor import Monitor
from serving.drift.rest import application
from serving.process.listening import HttpServer


def run(monitor: Monitor, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then save; print one line of JSON with the bound port when events are taken."""
    asyncio.run(_until_signalled(monitor, listener))


async def _until_signalled(monitor: Monitor, listener: socket.socket) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = HttpServer(application(monitor), grace=10)
    async with monitor.running():
        server.start(listener)
        host, port = listener.getsockname()[:2]
        print(json.dumps({"host": host, "http_port": port, "bundle": monitor.bundle}), flush=True)
        await stop.wait()
        monitor.draining = True
        await server.stop()
