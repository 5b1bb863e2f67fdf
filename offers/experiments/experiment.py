"""An experiment: arms that answer a share of the customers instead of the serving release."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from offers.errors import PolicyError
from offers.experiments.assignment import CONTROL, layer_positions, positions
from offers.yaml_file import Kind, Problem, Section, form, refuse

OUTSIDE = -2
"""Of a customer who is in no arm of an experiment, the control included."""

CANARY = "canary-"
"""How the names of those experiments begin by which a promotion takes its steps."""

_FILE = Kind("experiment", "offers.experiments", "name and arms", PolicyError)
_Name = Annotated[str, form(r"^[a-z0-9][a-z0-9._-]{0,39}$", "a name of small letters, digits, '.', '_' and '-'")]
_Fraction = Annotated[float, Field(ge=0, le=1)]


class ExperimentArm(Section):
    """An arm, which answers the customers from `start` to `start` + `share` in the experiment's order.

    When a share grows, it takes customers only from the control. `catalogue` names another policy for the serving
    model. `predictor` (host and port of its gRPC), `bundle` and `directory` (of its release) name another model; then
    that release's catalogue decides, unless `catalogue` names one. A market's arm has no predictor. A `shadow` also
    decides about its customers, but its answers are only logged: the customers stay in their arm.
    """

    name: _Name
    share: Annotated[float, Field(gt=0, le=1)]
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    catalogue: Path | None = None
    predictor: Annotated[str, form(r"^[^\s/]+:\d+$", "a host and a port, as in 127.0.0.1:8081")] | None = None
    bundle: str | None = None
    directory: Path | None = None
    shadow: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        model = (self.bundle, self.directory)
        if any((*model, self.predictor)) and not all(model):
            yield ("predictor",), "a model is told by 'predictor', 'bundle' and 'directory' together"
        elif self.catalogue is None and not all(model):
            yield ("catalogue",), "expected a catalogue, or a model of its own"
        if self.name == CONTROL:
            yield ("name",), f"{CONTROL!r} is the arm of those whom no other arm takes"


class Experiment(Section):
    """Arms and a control. `layer` is the part of all customers that takes part; concurrent experiments need layers
    without a common customer. Another `salt`, by default the name, shuffles the customers anew."""

    name: _Name
    salt: str = ""
    layer: tuple[_Fraction, _Fraction] = (0.0, 1.0)
    arms: Annotated[tuple[ExperimentArm, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.layer[0] >= self.layer[1]:
            yield ("layer",), f"expected a part such as [0, 0.5], got [{self.layer[0]:g}, {self.layer[1]:g}]"
        if len({arm.name for arm in self.arms}) < len(self.arms):
            yield ("arms",), "expected each name once"
        for below, above in pairwise(sorted(self._answering, key=lambda arm: arm.start)):
            if below.start + below.share > above.start + 1e-9:
                yield ("arms",), f"{below.name!r} and {above.name!r} share customers: set 'start' and 'share' apart"
        if (last := max(arm.start + arm.share for arm in self.arms)) > 1 + 1e-9:
            yield ("arms",), f"the shares: expected 1 at most where the last arm ends, got {last:g}"

    def assign(self, pseudonyms: Sequence[str]) -> np.ndarray:
        """Assign each customer to an arm.

        Returns
        -------
        ndarray of int, shape (n_customers,)
            the place in `arms`, -1 for the control, `OUTSIDE` for customers who are not in the layer
        """
        arm = np.full(len(pseudonyms), -1)
        where = positions(self.salt or self.name, pseudonyms)
        for place, one in enumerate(self.arms):
            if not one.shadow:
                arm[_holds(one, where)] = place
        arm[~self._takes_part(pseudonyms)] = OUTSIDE
        return arm

    def members(self, pseudonyms: Sequence[str]) -> dict[str, int]:
        """Count the customers whom the present shares assign to each arm, the control first."""
        arm = self.assign(pseudonyms)
        counts = {CONTROL: int((arm == -1).sum())}
        return counts | {one.name: int((arm == place).sum()) for place, one in enumerate(self.arms) if not one.shadow}

    def shadowed(self, pseudonyms: Sequence[str]) -> dict[str, np.ndarray]:
        """Find the customers of each shadow; places in `pseudonyms` by the shadow's name."""
        where, part = positions(self.salt or self.name, pseudonyms), self._takes_part(pseudonyms)
        return {one.name: np.flatnonzero(_holds(one, where) & part) for one in self.arms if one.shadow}

    def moved(self, former: Self) -> str:
        """Explain why customers would leave an arm of a former state of the experiment; empty where none would."""
        if (self.salt or self.name, self.layer) != (former.salt or former.name, former.layer):
            return "since salt or layer differ"
        own = {arm.name: arm for arm in self.arms}
        for arm in former.arms:
            if arm.shadow:
                continue
            if arm.name not in own or own[arm.name].shadow:
                return f"since arm {arm.name!r} is gone"
            if own[arm.name].start != arm.start or own[arm.name].share < arm.share:
                return f"since arm {arm.name!r} begins elsewhere or shrinks"
        return ""

    def arm_name(self, place: int) -> str:
        """Name an arm by its number from `assign`."""
        return CONTROL if place < 0 else self.arms[place].name

    @property
    def shares(self) -> dict[str, float]:
        """The share of each arm among those who take part, the control first."""
        shares = {arm.name: arm.share for arm in self._answering}
        return {CONTROL: 1 - sum(shares.values())} | shares

    @property
    def _answering(self) -> list[ExperimentArm]:
        return [arm for arm in self.arms if not arm.shadow]

    def _takes_part(self, pseudonyms: Sequence[str]) -> np.ndarray:
        if self.layer == (0.0, 1.0):
            return np.ones(len(pseudonyms), bool)
        layer = layer_positions(pseudonyms)
        return (layer >= self.layer[0]) & (layer < self.layer[1])


def load(where: str) -> Experiment:
    """Load an experiment from a YAML file or text; paths in a file are relative to it.

    Raises
    ------
    PolicyError
        the file can't be read, or a key is unknown, missing or wrong; the message names line and key
    """
    text, origin = _FILE.find(where)
    experiment = _FILE.read(text, origin).into(Experiment)
    parent = Path(origin).resolve().parent
    arms = [arm.model_copy(update=_beside(arm, parent)) for arm in experiment.arms]
    return experiment.model_copy(update={"arms": tuple(arms)})


def conflict(experiments: Sequence[Experiment]) -> str:
    """Explain why experiments can't run at once: a name occurs twice, or layers share customers; empty if they can."""
    by_layer = sorted(experiments, key=lambda experiment: experiment.layer)
    for below, above in pairwise(by_layer):
        if below.layer[1] > above.layer[0]:
            return f"experiments {below.name!r} and {above.name!r} share customers: set their layers apart"
    names = [experiment.name for experiment in experiments]
    return next((f"experiment {name!r} stands twice" for name in names if names.count(name) > 1), "")


def _holds(arm: ExperimentArm, where: np.ndarray) -> np.ndarray:
    return (where >= arm.start) & (where < arm.start + arm.share)


def _beside(arm: ExperimentArm, parent: Path) -> dict[str, Path]:
    paths = {"catalogue": arm.catalogue, "directory": arm.directory}
    return {key: parent / path for key, path in paths.items() if path is not None}
