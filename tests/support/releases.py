"""Releases for a ranker that follows a routing file, and the arms that name them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from offers.governance.release import ReleaseManifest, key
from offers.store.directory import MANIFEST, digests
from offers.store.store import Store
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


def stored(store: Store, directory: Path) -> Path:
    """Put what `release` made into a store, under the name of its content; returns its key, as a routing names it."""
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    manifest = ReleaseManifest(format=1, contract="shop", bundle="scripted", catalogue="w-1", files=digests(files))
    content = manifest.to_bytes()
    (directory / MANIFEST).write_bytes(content)
    name = key(f"shop-release-{hashlib.sha256(content).hexdigest()[:16]}")
    store.put_directory(directory, name)
    return Path(name)
