"""Questions to a predictor over HTTP; loads no model, so that the trigger stays small."""

import json
from typing import Any

import httpx

from offers.errors import ServiceError
from offers.http_client import NO_HEADERS, peer

_SECONDS = 10.0
_JSON = {"content-type": "application/json"}


def served(url: str, model: str = "offers") -> str:
    """Ask a predictor for the name of its bundle.

    Raises
    ------
    ServiceError
        it gives no answer, or names none
    """
    versions = call(f"{url.rstrip('/')}/v2/models/{model}").get("versions")
    if not isinstance(versions, list) or not versions or not isinstance(versions[0], str):
        raise ServiceError(f"{url}: expected the name of a bundle as version, got {versions!r:.60}")
    return versions[0]


def call(url: str, body: object = None) -> dict[str, Any]:
    """Get JSON, or post it where there is a body.

    Raises
    ------
    ServiceError
        there is no answer, or not one of JSON with status 200
    """
    content, headers = (None, NO_HEADERS) if body is None else (json.dumps(body).encode(), _JSON)
    try:
        answer = peer("the predictor", url, _SECONDS).ask(content, headers)
        reply = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceError(f"{url} gives no answer: {str(error) or type(error).__name__}") from None
    if answer.status_code != 200 or not isinstance(reply, dict):
        raise ServiceError(f"{url} answers {answer.status_code}: {str(reply)[:200]}")
    return reply
