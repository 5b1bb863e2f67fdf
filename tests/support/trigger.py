"""The trigger of retraining as a service on loopback, and the runs that it starts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from offers.retraining.journal import Request
from offers.retraining.retrainer import Retrainer
from pipelines.trigger import Authority, application


class Starts(list[str]):
    def __call__(self, request: Request, run: str) -> None:
        self.append(run)


@contextmanager
def served(retrainer: Retrainer, authority: Authority | None = None) -> Iterator[httpx.Client]:
    """The service on a free port of loopback, and a client of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(application(retrainer, authority), log_config=None, lifespan="off", ws="none")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
