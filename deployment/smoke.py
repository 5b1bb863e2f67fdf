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

AGREEING = 5
"""Answers in a row, each over a connection of its own, that have to come from the new bundle: pods take turns."""


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
    answer = _call("POST", f"{url.rstrip('/')}/v1/models/{model}:predict", {"instances": instances})
    scores = np.array(answer.get("predictions", []), dtype=float)
    if scores.shape != expected.shape:
        raise ServiceError(f"{url}: expected {len(expected)} propensities for the golden rows, got {len(scores)}")
    worst = int(np.argmax(np.abs(scores - expected)))
    if abs(scores[worst] - expected[worst]) > TOLERANCE:
        raise ServiceError(
            f"{url}: golden row {worst + 1} of {bundle.name} scores {scores[worst]:.6f}, expected {expected[worst]:.6f}"
        )


def _await_version(url: str, version: str, seconds: float, model: str) -> None:
    deadline, agreed, last_word = time.monotonic() + seconds, 0, "nothing was answered"
    while agreed < AGREEING:
        try:
            versions = _call("GET", f"{url}/v2/models/{model}").get("versions") or ["no version"]
            agreed, last_word = (agreed + 1 if versions[0] == version else 0), f"{versions[0]} is served"
        except ServiceError as error:
            agreed, last_word = 0, str(error)
        if agreed == 0:
            if time.monotonic() > deadline:
                raise ServiceError(f"{url}: expected {version} within {seconds:g} seconds, but {last_word}")
            time.sleep(0.2)


def _call(method: str, url: str, body: object = None) -> dict[str, Any]:
    try:
        answer = httpx.request(method, url, json=body, timeout=10, trust_env=False)
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ServiceError(f"{url} gives no answer: {str(error) or type(error).__name__}") from None
    if answer.status_code != 200 or not isinstance(content, dict):
        raise ServiceError(f"{url} answers {answer.status_code}: {str(content)[:200]}")
    return content
