"""Sends OpenLineage events to a file or a server. A server that is down delays a step by less than a second."""

import http.client
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from offers.settings import LineageSettings

SECONDS = 0.4
"""For one event; a step sends two."""
FILE = "lineage.ndjson"


@dataclass(frozen=True)
class Sink:
    """Sends events, and never fails.

    Attributes
    ----------
    home : directory of the file, used where there is no server
    settings : the server, which accepts POST at `api/v1/lineage`, and its bearer token
    """

    home: Path
    settings: LineageSettings

    def send(self, event: dict[str, Any]) -> None:
        """Send an event; a failure is only reported by a line on standard error."""
        content = json.dumps(event, separators=(",", ":")).encode()
        problems = list[str]()
        # A socket's deadline restarts with every byte, so a slow server could hold the step; a thread is left behind.
        thread = Thread(target=self._try, args=(content, problems), daemon=True)
        thread.start()
        thread.join(SECONDS)
        if thread.is_alive():
            problems.append(f"no answer within {SECONDS:g} s")
        if problems:
            print(
                f"offers: lineage not told to {self.settings.url or self.home / FILE}: {problems[0]}",
                file=sys.stderr,
                flush=True,
            )

    def _try(self, content: bytes, problems: list[str]) -> None:
        try:
            self._post(content) if self.settings.url else self._append(content)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems.append(str(error) or type(error).__name__)

    def _append(self, content: bytes) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        # Steps may run at the same time. A single write in append mode stays whole.
        descriptor = os.open(self.home / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, content + b"\n")
        finally:
            os.close(descriptor)

    def _post(self, content: bytes) -> None:
        address = urlsplit(self.settings.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.netloc, timeout=SECONDS)
        headers = {"Content-Type": "application/json"}
        if token := self.settings.key.get_secret_value():
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request("POST", f"{address.path.rstrip('/')}/api/v1/lineage", content, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if status >= 300:
            raise ValueError(f"it answers {status}")
