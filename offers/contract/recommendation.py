"""How a market's recommendations are put together from scored products."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from offers.contract.column import Column, Role
from offers.yaml_file import Problem, Section


class Recommendation(Section):
    """The places of an answer, what may stand in them, and how much is left to chance.

    With the probability `explore` any eligible candidate may come first, each with the same probability.
    """

    k: Annotated[int, Field(ge=1, le=100)] = 10
    required: tuple[str, ...] = ()
    family: str | None = None
    most_per_family: Annotated[int, Field(ge=1)] = 3
    explore: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def problems(self, columns: Mapping[str, Column], truths: Sequence[str]) -> list[Problem]:
        """List what does not fit the rest of the contract; `truths` are the pairs that hold or don't."""
        found: list[Problem] = [
            (("recommendation", "required", place), f"{name!r} is no pair of measure 'at_least' or 'equal'")
            for place, name in enumerate(self.required)
            if name not in truths
        ]
        family = columns.get(self.family or "")
        if self.family is not None and (family is None or family.role != Role.OFFER or family.type != "category"):
            found.append((("recommendation", "family"), f"{self.family!r} is no category of role offer"))
        return found
