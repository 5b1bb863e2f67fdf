"""Waiting for what a cluster does: until it is done, or until a deadline that says what was waited for."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from offers.errors import OffersError

T = TypeVar("T")

PAUSE = 0.5
"""Seconds between two looks."""


def await_that(what: str, probe: Callable[[], tuple[T | None, str]], seconds: float, look_at: str) -> T:
    """Look again and again until there is an answer, and fail at the deadline.

    Parameters
    ----------
    what : is waited for, for the message
    probe : returns the answer, or None while there is none, and what it has seen; what it raises of ours is seen too
    seconds : to wait
    look_at : where a person finds out more
    """
    end = time.monotonic() + seconds
    while True:
        try:
            answer, seen = probe()
        except OffersError as error:
            answer, seen = None, str(error)
        if answer is not None:
            return answer
        if time.monotonic() >= end:
            pytest.fail(f"waited {seconds:g} seconds for {what}; last seen: {seen}; look at: {look_at}", pytrace=False)
        time.sleep(PAUSE)
