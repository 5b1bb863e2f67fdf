"""A contract of three columns, and files that keep to it."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

from offers.contract.contract import Contract

SMALL = b'age;job;y\n30;clerk;no\n41;"retired";yes\n'
LARGE = b"age;job;y\n" + b"".join(b"%d;clerk;no\n" % (20 + row % 50) for row in range(50_000))


def contract(**source: Any) -> Contract:
    return Contract.model_validate(
        {
            "name": "small",
            "title": "Small",
            "source": {"file": "small.csv", "format": {"separator": ";"}} | source,
            "target": {"column": "y", "positive": "yes", "negative": "no"},
            "columns": [
                {"name": "age", "role": "customer", "type": "integer"},
                {"name": "job", "role": "customer", "type": "category", "values": ["clerk", "retired"]},
                {"name": "y", "role": "target", "type": "category"},
            ],
            "gate": [{"metric": "auc", "at_least": 0.5}],
        }
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.name: path.read_bytes() for path in paths}


def write(folder: Path, content: bytes | str, name: str = "rows.csv") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()
