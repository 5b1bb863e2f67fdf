"""When a model is trained again."""

from dataclasses import dataclass
from typing import Literal

Trigger = Literal["never", "rows", "month", "drift", "two of three"]


@dataclass(frozen=True)
class Schedule:
    """When a model is trained again, and whether its layer learns in between.

    With the trigger `rows` it is trained again after `every` rows.
    """

    trigger: Trigger
    learns: bool
    every: int = 0

    @property
    def schedule(self) -> str:
        return f"every {self.every} rows" if self.trigger == "rows" else _NAMES.get(self.trigger, self.trigger)

    @property
    def name(self) -> str:
        return self.schedule + (" + layer" if self.learns else "")

    @property
    def looks(self) -> bool:
        """Whether the schedule acts on signals."""
        return self.trigger in ("drift", "two of three")


_NAMES = {"month": "every month", "drift": "on drift"}
