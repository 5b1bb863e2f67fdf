"""CloudEvents 1.0 over HTTP, structured or binary, as the services take them in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.exceptions import HTTPException

from offers.errors import RequestError
from serving.process.edge import strict_json

MOST_CHARACTERS = 200
_STRUCTURED = "application/cloudevents+json"


@dataclass(frozen=True)
class Event:
    """One event. Every text in it can be written as UTF-8, and every number as one of 64 bits."""

    id: str
    source: str
    type: str
    data: Any


def read_event(headers: Mapping[str, str], body: bytes) -> Event:
    """Read an event from a request; `headers` by names in lower case.

    Raises
    ------
    HTTPException
        415: it is of another type than JSON
    RequestError
        says which attribute is wrong, what was expected and what arrived
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _STRUCTURED:
        content = strict_json(body)
        if not isinstance(content, dict):
            raise RequestError(f"the event: expected a JSON object, got {_shown(content)}")
        return _checked(content, content.get("data"))
    # Who sends a header of an event has had to ask first, if it is a browser's page.
    if kind != "application/json" and (kind or "ce-specversion" not in headers):
        expected = f"expected {_STRUCTURED}, or application/json beside the headers of an event"
        raise HTTPException(415, f"header content-type: {expected}, got {_shown(kind)}")
    attributes = {name[3:]: _plain(name, value) for name, value in headers.items() if name.startswith("ce-")}
    return _checked(attributes, strict_json(body))


def _checked(attributes: Mapping[str, Any], data: Any) -> Event:
    version = attributes.get("specversion")
    if version != "1.0":
        raise RequestError(f"the event's 'specversion': expected '1.0', got {_shown(version)}")
    return Event(_text(attributes, "id"), _text(attributes, "source"), _text(attributes, "type"), data)


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MOST_CHARACTERS:
        arrival = f"{len(value)} characters" if isinstance(value, str) else _shown(value)
        raise RequestError(f"the event's {name!r}: expected text of 1 to {MOST_CHARACTERS} characters, got {arrival}")
    return value


def _plain(name: str, value: str) -> str:
    """A header's value; what is not ASCII comes in percent signs."""
    try:
        return unquote(value.encode("ascii").decode(), errors="strict")
    except ValueError:
        raise RequestError(f"header {name}: expected ASCII, other characters as %XX of UTF-8") from None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else f"{value!r:.60}"
