"""The routing file: which release the ranker serves, and where its predictor and its drift sidecar answer.

`offers serve` writes it; the ranker looks at it several times a second, and switches between two requests. A file that
can't be read, or names a predictor that does not answer as its bundle would, changes nothing.

    {"version": 1, "head": "42:6b86…", "arms": [{"name": "champion", "share": 1.0, "release": "shop-release-…",
     "bundle": "shop-…", "directory": "/…/releases/shop-release-…", "predictor": "127.0.0.1:43121", "drift_url": ""}]}
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import uuid4

from pydantic import Field, ValidationError, model_validator

from offers.errors import ServiceError
from offers.files import os_errors, sync
from offers.record import Record


class Arm(Record):
    """A release that answers a share of the customers.

    `directory` is the release's, `predictor` host and port of its predictor's gRPC, `drift_url` where its sidecar
    takes events; without one its rows are not watched.
    """

    name: str
    share: Annotated[float, Field(gt=0, le=1)]
    release: str
    bundle: str
    directory: Path
    predictor: Annotated[str, Field(pattern=r"^[^\s/]+:\d+$")]
    drift_url: str = ""


class Routing(Record):
    """The arms in force. `head` is the end of the ledger that they come from."""

    version: Literal[1] = 1
    head: str = ""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the arms: expected 1 in all, got {total:g}")
        return self


def read(path: Path) -> Routing:
    """Read a routing file.

    Raises
    ------
    ServiceError
        there is none, or it breaks its form
    """
    with os_errors(path, ServiceError):
        content = path.read_bytes()
    try:
        return Routing.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "it"
        raise ServiceError(f"{path}: expected a routing file, but {where}: {detail['msg']}") from None


def write(path: Path, routing: Routing) -> None:
    """Write a routing file; a reader sees the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    with os_errors(path):
        try:
            temporary.write_text(routing.model_dump_json(indent=1) + "\n", "utf-8")
            sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
