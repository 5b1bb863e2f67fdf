"""Lets work wait behind whoever answers requests: on a machine with few cores a start takes all of them for seconds."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_BEHIND = 10
"""As `nice` counts: a tenth of the CPU of whoever answers requests, where both want it all. A start still ends then."""
_AUTOGROUP = Path("/proc/self/autogroup")
"""Linux weighs the sessions of a machine against each other by this file, and `nice` only within a session. Where the
file is missing, as outside of Linux, and in containers `nice` does it all."""
_PATIENCE = 2.0


def step_back() -> None:
    """Let this process wait behind others for the CPU, for good."""
    _step_behind(0)
    if (weight := _session_weight()) is not None:
        _weigh_session(max(weight, _BEHIND))


def in_background(work: Callable[[], Result]) -> Result:
    """Do work that waits behind others for the CPU, and wait for it.

    The work gets a thread of its own, since a thread may lower its priority and not raise it again. Threads that the
    work starts keep the low one.
    """

    def run() -> Result:
        # Threads have priorities of their own on Linux alone.
        with suppress(OSError):
            _step_behind(threading.get_native_id())
        return work()

    weight = _session_weight()
    if weight is not None:
        _weigh_session(max(weight, _BEHIND))
    try:
        with ThreadPoolExecutor(1, "background") as thread:
            return thread.submit(run).result()
    finally:
        if weight is not None:
            _weigh_session(weight)


def _step_behind(task: int) -> None:
    os.setpriority(os.PRIO_PROCESS, task, max(os.getpriority(os.PRIO_PROCESS, task), _BEHIND))


def _session_weight() -> int | None:
    """Read the weight of this process's session; None where it is not ours alone, or could not be given back."""
    if os.getsid(0) != os.getpid():
        return None
    try:
        weight = int(_AUTOGROUP.read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return None
    return weight if weight >= 0 else None


def _weigh_session(nice: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        # The kernel lets all users together change this ten times a second.
        with suppress(BlockingIOError):
            with suppress(PermissionError):
                _AUTOGROUP.write_text(str(nice))
            return
        time.sleep(0.05)
