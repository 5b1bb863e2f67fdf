"""The routing: which release the ranker serves, and where its predictor and its drift sidecar answer.

`offers serve` writes it as a file; on a cluster it is an object of the store (`routing_source`). The ranker looks at it
each second or more often, and switches between two requests. One that can't be read, or names a predictor that does not
answer as its bundle would, changes nothing. `experiments` has some customers answered by other arms
(`offers.experiments.experiment`); without it, or with none, nobody is.

    {"version": 1, "head": "42:6b86…", "arms": [{"name": "champion", "share": 1.0, "release": "shop-release-…",
     "bundle": "shop-…", "directory": "/…/releases/shop-release-…", "predictor": "127.0.0.1:43121", "drift_url": ""}]}
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import uuid4

from pydantic import Field, ValidationError, model_validator

from offers.errors import ServiceError
from offers.experiments.experiment import Experiment, ExperimentArm, conflict
from offers.files import os_errors, sync
from offers.record import Record


class Arm(Record):
    """A release that answers a share of the customers.

    `directory` is the release's, `predictor` host and port of its predictor's gRPC, `drift_url` where its sidecar
    takes events; without one its rows are not watched. `catalogue` decides in place of the release's. The releases of a
    market have no predictor: the recommender itself scores.
    """

    name: str
    share: Annotated[float, Field(gt=0, le=1)]
    release: str
    bundle: str
    directory: Path
    predictor: Annotated[str, Field(pattern=r"^([^\s/]+:\d+)?$")] = ""
    drift_url: str = ""
    catalogue: Path | None = None

    @property
    def policy(self) -> Path:
        """The catalogue that decides."""
        return self.catalogue or self.directory / "catalogue.yaml"

    def beside(self, arm: ExperimentArm) -> "Arm":
        """An arm of an experiment: what it does not name is this one's, and its rows are not watched."""
        own = {"name": arm.name, "share": arm.share, "drift_url": "", "catalogue": arm.catalogue}
        own |= {key: value for key in ("predictor", "bundle", "directory") if (value := getattr(arm, key)) is not None}
        own |= {"release": arm.directory.name} if arm.directory else {}
        return self.model_copy(update=own)


class Routing(Record):
    """The arm in force, and experiments beside it. `head` is the end of the ledger that the arm comes from."""

    version: Literal[1] = 1
    head: str = ""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=1)]
    experiments: tuple[Experiment, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the arms: expected 1 in all, got {total:g}")
        if reason := conflict(self.experiments):
            raise ValueError(reason)
        return self

    def written(self) -> str:
        """The file's content, without what says nothing."""
        absent = set() if self.experiments else {"experiments"}
        return self.model_dump_json(indent=1, exclude_none=True, exclude=absent) + "\n"


def read(path: Path) -> Routing:
    """Read a routing file.

    Raises
    ------
    ServiceError
        there is none, or it breaks its form
    """
    with os_errors(path, ServiceError):
        content = path.read_bytes()
    return parse(content, str(path))


def parse(content: bytes, origin: str) -> Routing:
    """Read the content of a routing; raises ServiceError where it breaks its form."""
    try:
        return Routing.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "it"
        raise ServiceError(f"{origin}: expected a routing, but {where}: {detail['msg']}") from None


def update(path: Path, change: Callable[[Routing], Routing]) -> None:
    """Change a routing file; of several processes that do so at once, each sees what the one before has written.

    Raises
    ------
    ServiceError
        there is none, or it breaks its form
    """
    with os_errors(path), path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write(path, change(read(path)))


def write(path: Path, routing: Routing) -> None:
    """Write a routing file; a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    with os_errors(path):
        try:
            temporary.write_text(routing.written(), "utf-8")
            sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
