"""A question to a ranker on the wire, as a program of ours asks it."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from offers.errors import RequestError, ServiceError
from offers.http_client import NO_HEADERS, peer

_ASK_SECONDS, _ANSWER_BYTES = 60.0, 16 * 2**20


def ask(url: str, request: dict[str, Any], credentials: Mapping[str, str] = NO_HEADERS) -> dict[str, Any]:
    """Send a request to a ranker.

    Parameters
    ----------
    url : where the ranker answers, such as http://127.0.0.1:8080
    credentials : headers by which it knows us

    Raises
    ------
    RequestError
        the ranker refuses the request: its sentence
    ServiceError
        there is no ranker, or it is none of this version
    """
    # json writes the body, because httpx refuses NaN, while the ranker's answer names the field with it.
    body, headers = json.dumps(request).encode(), {"content-type": "application/json"} | dict(credentials)
    ranker = peer("--url", f"{url.rstrip('/')}/v1/models/offers:predict", _ASK_SECONDS, answer_bytes=_ANSWER_BYTES)
    try:
        answer = ranker.ask(body, headers)
        content = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise ServiceError(f"no ranker answers at {url}: {reason}; 'offers serve' starts one") from None
    if not isinstance(content, dict):
        raise ServiceError(f"{url}: expected a ranker's answer, got another service's; 'offers serve' starts a ranker")
    if answer.status_code != 200:
        raise RequestError(f"{url} answers {answer.status_code}: {content.get('error', content)}")
    if "predictions" not in content:
        raise ServiceError(
            f"{url}: expected 'predictions' in the answer, got {', '.join(content)[:80]!r}: start the services of this"
            " version with 'offers serve'"
        )
    return content
