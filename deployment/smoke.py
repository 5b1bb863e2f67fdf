"""Checks that a predictor serves a bundle, and scores its golden rows as the bundle says."""

import json
import time
from typing import Any

import httpx
import numpy as np

from offers.bundle.bundle import Bundle
from offers.bundle.golden import TOLERANCE
from offers.bundle.golden import golden as golden_rows
from offers.errors import ServiceError
from offers.http_client import NO_HEADERS, peer

AGREEING = 5
"""Answers in a row, each over a connection of its own, that have to come from the new bundle: pods take turns."""
_SECONDS = 10.0
_JSON = {"content-type": "application/json"}


def smoke(url: str, bundle: Bundle, seconds: float, model: str = "offers") -> None:
    """Wait until a predictor serves the bundle, then check its answers for the golden rows.

    Parameters
    ----------
    url : the predictor's address, `http://host:port`
    seconds : time to wait for the bundle to be served

    Raises
    ------
    ServiceError
        another bundle is still served, nothing answers, or a golden row gets another propensity
    """
    _await_version(url.rstrip("/"), bundle.name, seconds, model)
    rows, expected = golden_rows(bundle.path)
    instances = json.loads(rows.to_json(orient="records", double_precision=15))
    answer = _call(f"{url.rstrip('/')}/v1/models/{model}:predict", {"instances": instances})
    scores = np.array(answer.get("predictions", []), dtype=float)
    if scores.shape != expected.shape:
        raise ServiceError(f"{url}: expected {len(expected)} propensities for the golden rows, got {len(scores)}")
    worst = int(np.argmax(np.abs(scores - expected)))
    if abs(scores[worst] - expected[worst]) > TOLERANCE:
        raise ServiceError(
            f"{url}: golden row {worst + 1} of {bundle.name} scores {scores[worst]:.6f}, expected {expected[worst]:.6f}"
        )


def served(url: str, model: str = "offers") -> str:
    """Ask a predictor for the name of its bundle.

    Raises
    ------
    ServiceError
        it gives no answer, or names none
    """
    versions = _call(f"{url.rstrip('/')}/v2/models/{model}").get("versions")
    if not isinstance(versions, list) or not versions or not isinstance(versions[0], str):
        raise ServiceError(f"{url}: expected the name of a bundle as version, got {versions!r:.60}")
    return versions[0]


def _await_version(url: str, version: str, seconds: float, model: str) -> None:
    deadline, agreed, last_word = time.monotonic() + seconds, 0, "nothing was answered"
    while agreed < AGREEING:
        try:
            name = served(url, model)
            agreed, last_word = (agreed + 1 if name == version else 0), f"{name} is served"
        except ServiceError as error:
            agreed, last_word = 0, str(error)
        if agreed == 0:
            if time.monotonic() > deadline:
                raise ServiceError(f"{url}: expected {version} within {seconds:g} seconds, but {last_word}")
            time.sleep(0.2)


def _call(url: str, body: object = None) -> dict[str, Any]:
    """Get JSON, or post it where there is a body."""
    content, headers = (None, NO_HEADERS) if body is None else (json.dumps(body).encode(), _JSON)
    try:
        answer = peer("the predictor", url, _SECONDS).ask(content, headers)
        answered = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceError(f"{url} gives no answer: {str(error) or type(error).__name__}") from None
    if answer.status_code != 200 or not isinstance(answered, dict):
        raise ServiceError(f"{url} answers {answer.status_code}: {str(answered)[:200]}")
    return answered
