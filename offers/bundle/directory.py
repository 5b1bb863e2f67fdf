"""The directory of a bundle, of a model or of a market: its manifest holds the SHA-256 of every other file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from offers.bundle.location import name_of
from offers.bundle.manifest import AbstractManifest
from offers.errors import BundleError
from offers.files import sha256_of, sync

MANIFEST = "manifest.json"


class _Versioned(BaseModel):
    """The part of a manifest that every version has."""

    format: int


AnyManifest = TypeVar("AnyManifest", bound=AbstractManifest)


def read_manifest(path: Path, form: type[AnyManifest], oldest: int, newest: int) -> tuple[AnyManifest, str]:
    """Read the manifest of a bundle, and compute the bundle's name from it.

    Parameters
    ----------
    form : the manifest's class, whose `contract` is the beginning of the name
    oldest, newest : the formats that can be read

    Raises
    ------
    BundleError
        this is no bundle, or one of another kind or format
    """
    if not path.is_dir():
        raise BundleError(f"bundle {path}: expected a directory, found {'a file' if path.exists() else 'nothing'}")
    try:
        content = (path / MANIFEST).read_bytes()
        _check_format(path, content, oldest, newest)
        manifest = form.model_validate_json(content)
    except FileNotFoundError:
        raise BundleError(f"bundle {path}: {MANIFEST} is missing, so this is no bundle, or half of one") from None
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "the file"
        raise BundleError(f"bundle {path}: {MANIFEST} is damaged or foreign: {where}: {detail['msg']}") from None
    return manifest, name_of(content, manifest.contract)


def check_files(path: Path, files: Mapping[str, str]) -> None:
    """Compare a directory's files with the SHA-256 that its manifest holds.

    Raises
    ------
    BundleError
        a file is missing, foreign or changed
    """
    present = {file.name for file in path.iterdir()} - {MANIFEST}
    if missing := sorted(set(files) - present):
        raise BundleError(f"bundle {path}: missing {', '.join(missing)}: fetch the bundle again")
    if foreign := sorted(present - set(files)):
        raise BundleError(f"bundle {path}: {', '.join(foreign)} is not in the manifest: fetch the bundle again")
    for file, expected in files.items():
        if (real := sha256_of(path / file)) != expected:
            raise BundleError(
                f"bundle {path}: {file} was changed: expected sha256 {expected[:16]}…, got {real[:16]}…: fetch it again"
            )


def settle(partial: Path, final: Path, load: Callable[[Path, str], object]) -> Path:
    """Verify a finished directory, flush it to the disk, and move it into place in one step.

    Parameters
    ----------
    load : verifies the bundle of a path, which must have the given name
    """
    load(partial, final.name)
    for file in partial.iterdir():
        sync(file)
    partial.chmod(0o755)
    try:
        partial.rename(final)
    except OSError:
        # The same bundle exists already, from an earlier run or from a parallel one that was faster.
        if not final.is_dir():
            raise
        load(final, final.name)
    return final


def _check_format(path: Path, manifest: bytes, oldest: int, newest: int) -> None:
    """Refuse bundles of another version before their content is read."""
    version = _Versioned.model_validate_json(manifest).format
    if version < oldest:
        raise BundleError(
            f"bundle {path} was written by an older version (format {version}, not {newest}): train it again"
        )
    if version > newest:
        raise BundleError(
            f"bundle {path} was written by a newer version (format {version}, not {newest}): load it with that version"
        )
