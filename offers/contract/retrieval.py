"""How a market's candidates are found."""

from typing import Annotated, Literal

from pydantic import Field

from offers.yaml_file import Section


class Retrieval(Section):
    """How candidates are found among the products, before the ranker scores them.

    `towers` are two networks whose vectors' product is the affinity of user and product. The user's tower also takes
    the products of the user's newest views, `history` of them. With `none` the ranker scores all products.
    `offers.retrieval.towers` explains the numbers.
    """

    method: Literal["towers", "none"] = "towers"
    candidates: Annotated[int, Field(ge=1, le=10_000)] = 50
    dimensions: Annotated[int, Field(ge=2, le=512)] = 32
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.003
    history: Annotated[int, Field(ge=0, le=200)] = 20

    @property
    def viewed(self) -> int:
        """How many of a user's newest views are kept."""
        return self.history if self.method == "towers" else 0
