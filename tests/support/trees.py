"""A directory of files, to store and to compare."""

from pathlib import Path

FILES = {"manifest.json": b"{}", "model.ubj": b"\x00trees" * 1000, "plots/reliability.svg": b"<svg/>", "empty": b""}


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def bundle(folder: Path, **changed: bytes) -> Path:
    for name, content in (FILES | {name.replace("_", "."): value for name, value in changed.items()}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
