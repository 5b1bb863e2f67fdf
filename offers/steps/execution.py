"""Runs a step: retries passing faults, and ends with one sentence where the step fails by an error of ours."""

import random
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from offers.errors import OffersError
from offers.lineage.telling import followed
from offers.settings import Settings

Result = TypeVar("Result")
PREFIX = "offers: "
"""How each line begins that a step of ours writes into its log."""
STOPPED = f"{PREFIX}stopped:"
"""How the last line of a step begins that fails by an error of ours."""
MISTAKE = re.compile(rf"\s*(?:{STOPPED}|offers\.errors\.\w+:) (?P<sentence>.*)")
"""That line, and the last one of a traceback by such an error."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0


def say(text: str) -> None:
    """Write a line of a step's log."""
    print(PREFIX, text, sep="", flush=True)


def execute(step: Callable[..., Result], *arguments: object) -> Result:
    """Run a step; exit with code 1 and one sentence where it fails by an error of ours.

    After a fault that may pass, such as a store that can't be reached, the step is tried again for OFFERS_PATIENCE
    seconds. Any other error ends the step at once. Each try is reported to OpenLineage.
    """
    try:
        settings = Settings.from_env()
        return _patiently(partial(followed, step, arguments, settings), settings.patience)
    except OffersError as error:
        print(STOPPED, error, file=sys.stderr, flush=True)
        sys.exit(1)


def _patiently(step: Callable[[], Result], patience: float) -> Result:
    deadline, longest = time.monotonic() + patience, _FIRST_PAUSE
    while True:
        try:
            return step()
        except OffersError as error:
            rest = deadline - time.monotonic()
            if not error.passes or rest <= 0:
                raise
            # The pause is random, so that steps that lost the same store don't all return to it at once.
            pause = min(rest, random.uniform(longest / 2, longest))
            say(f"{error}; tried again in {pause:.0f} s, for another {rest:.0f} s at most")
            time.sleep(pause)
            longest = min(2 * longest, _LONGEST_PAUSE)
