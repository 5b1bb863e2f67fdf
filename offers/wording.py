"""Values and names as messages show them."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

Say = Callable[[str], None]
"""Tells a person, in a line, what is being done."""


def shown(value: Any) -> str:
    """Write a value as JSON does, cut to a length that fits a sentence."""
    if isinstance(value, str):
        return repr(value[:60] + "…" if len(value) > 60 else value)
    if isinstance(value, bytes):
        return shown(value.decode("utf-8", "backslashreplace"))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return _shown_float(value) if isinstance(value, float) else str(value)[:60]


def _shown_float(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.15g}"
    return text if "." in text or "e" in text else f"{text}.0"


def some(names: Sequence[str]) -> str:
    """List the first dozen of many names, for a message."""
    head = ", ".join(name if name.isprintable() else repr(name) for name in names[:12])
    return head + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def counted(count: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun, whose plural ends in s unless it is given.

    Examples
    --------
    >>> counted(1, "rule"), counted(0, "rule"), counted(2, "entry", "entries")
    ('1 rule', '0 rules', '2 entries')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def spoken(span: timedelta) -> str:
    """Write a span of time as people say it, cut to whole days, hours or minutes."""
    seconds = span.total_seconds()
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count > 1 or seconds == length:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds:.0f} seconds"
