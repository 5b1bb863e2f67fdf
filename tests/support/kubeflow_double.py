"""A small Kubeflow Pipelines API on loopback: the wire format of v2beta1, as far as the official client uses it."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support import loopback
from tests.support.loopback import Loopback

API = "/apis/v2beta1"


class KubeflowDouble(Loopback):
    """Experiments, runs and recurring runs in memory.

    `refuse` maps "METHOD path" to a status that is answered in place of the content; `broken` answers with half of it.
    """

    def __init__(self) -> None:
        self.experiments: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.recurring: list[dict[str, Any]] = []
        self.refuse: dict[str, int] = {}
        self.broken = False
        self.tokens: set[str | None] = set()
        super().__init__(_Handler.of(self), patient=False)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if status := self.refuse.get(f"{method} {path}"):
            return status, {"code": 7, "message": f"refused with {status}", "details": []}
        collection, _, name = path.removeprefix(f"{API}/").partition("/")
        if collection == "healthz":
            return 200, {"multi_user": False}
        kept = {"experiments": self.experiments, "runs": self.runs, "recurringruns": self.recurring}.get(collection)
        if kept is None:
            return 404, {"code": 5, "message": f"{path} not found"}
        name, _, verb = name.partition(":")
        if method == "POST" and not verb:
            return 200, self._created(collection, kept, body)
        if name:
            return self._one(method, kept, _ID[collection], name, verb)
        found = [item for item in reversed(kept) if _matches(item, query)]
        return 200, {_PLURAL[collection]: found, "total_size": len(found)} if found else {}

    def _created(self, collection: str, kept: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
        number = len(kept) + 1
        item = body | {_ID[collection]: f"{collection}-{number}", "created_at": f"2026-01-01T00:00:{number:02d}Z"}
        if collection == "runs":
            item |= {"state": "PENDING", "finished_at": "1970-01-01T00:00:00Z"}
        if collection == "recurringruns":
            item |= {"status": "ENABLED", "updated_at": datetime.now(UTC).isoformat()}
        kept.append(item)
        return item

    def _one(self, method: str, kept: list[dict[str, Any]], key: str, name: str, verb: str) -> tuple[int, Any]:
        item = next((item for item in kept if item[key] == name), None)
        if item is None:
            return 404, {"code": 5, "message": f"{name} not found"}
        if method == "DELETE":
            kept.remove(item)
            return 200, {}
        if verb == "disable":
            item["status"] = "DISABLED"
            return 200, {}
        return 200, item


_ID = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
_PLURAL = {"experiments": "experiments", "runs": "runs", "recurringruns": "recurringRuns"}


def _matches(item: dict[str, Any], query: dict[str, list[str]]) -> bool:
    for predicate in json.loads(query.get("filter", ["{}"])[0] or "{}").get("predicates", []):
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        if item.get(predicate["key"]) != wanted:
            return False
    return True


class _Handler(loopback.Handler):
    double: KubeflowDouble

    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        self.double.tokens.add(self.headers["authorization"])
        status, content = self.double.answer(self.command, url.path, parse_qs(url.query), body)
        sent = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        if self.double.broken and url.path != f"{API}/healthz":
            self.wfile.write(sent[: len(sent) // 2])
            self.close_connection = True
            return
        self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = _do
