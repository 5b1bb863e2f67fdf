"""Releases for a ranker that follows a routing file, and the arms that name them."""

import json
from pathlib import Path
from typing import Any

from serving.ranker.routing import Arm
from tests.support.warranties import WARRANTIES

DEARER = WARRANTIES.replace("value: 30", "value: 31", 1)
ROW = {"spending": 1.0, "visits": 2, "channel": "web", "region": None, "member": True, "rating": None}


def arm(directory: Path, port: int, **changes: Any) -> Arm:
    fields = {"name": "champion", "share": 1.0, "release": directory.name, "bundle": "scripted"}
    return Arm.model_validate(fields | {"directory": directory, "predictor": f"127.0.0.1:{port}"} | changes)


def release(parent: Path, name: str, catalogue: str, propensity: float = 0.25) -> Path:
    """What a ranker reads of a release; the scripted predictor gives every row 0.25."""
    directory = parent / name
    (directory / "bundle").mkdir(parents=True)
    (directory / "bundle" / "golden.json").write_text(json.dumps({"rows": [ROW, ROW], "propensity": [propensity] * 2}))
    (directory / "catalogue.yaml").write_text(catalogue)
    return directory
