"""Runs a step and reports its lineage: that it began, and how it ended."""

import inspect
from collections.abc import Callable
from typing import TypeVar

from offers.errors import OffersError
from offers.lineage import events
from offers.lineage.events import STEPS, Kind, Step
from offers.lineage.sink import Sink
from offers.settings import Settings

Result = TypeVar("Result")


def followed(function: Callable[..., Result], arguments: tuple[object, ...], settings: Settings) -> Result:
    """Run a step, and report its lineage if `STEPS` names it. A failure to report never fails the step."""
    if settings.lineage.off or function.__name__ not in STEPS:
        return function(*arguments)
    values = inspect.signature(function).bind(*arguments).arguments
    step = events.step_of(function.__name__, values, settings.lineage.namespace)
    sink = Sink(settings.home, settings.lineage)
    _tell(sink, step, "START")
    try:
        result = function(*arguments)
    except BaseException as error:
        # Messages of ours hide the secrets of a source. Any other may hold what a driver was told.
        _tell(sink, step, "FAIL", problem=(isinstance(error, OffersError) and str(error)) or type(error).__name__)
        raise
    name = result.rpartition("/")[2] if isinstance(result, str) else ""
    _tell(sink, step, "COMPLETE", origin=str(getattr(result, "origin", "")) if step.name == "ingest" else "", made=name)
    return result


def _tell(sink: Sink, step: Step, kind: Kind, origin: str = "", made: str = "", problem: str = "") -> None:
    try:
        sink.send(events.event(step, kind, origin, made, problem))
    # A broken step may leave files of any form, so reading them may raise anything.
    except Exception as error:
        print(f"offers: lineage not told: {type(error).__name__}: {error}", flush=True)
