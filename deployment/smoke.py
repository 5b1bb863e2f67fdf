"""Checks that a predictor serves a bundle, and scores its golden rows as the bundle says."""

import json
import time

import numpy as np

from deployment.predictor import call, served
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
    answer = call(f"{url.rstrip('/')}/v1/models/{model}:predict", {"instances": instances})
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
            name = served(url, model)
            agreed, last_word = (agreed + 1 if name == version else 0), f"{name} is served"
        except ServiceError as error:
            agreed, last_word = 0, str(error)
        if agreed == 0:
            if time.monotonic() > deadline:
                raise ServiceError(f"{url}: expected {version} within {seconds:g} seconds, but {last_word}")
            time.sleep(0.2)
