"""A release: a bundle and a catalogue in one directory that never changes, named by its content.

shop-release-0123456789abcdef/
  manifest.json     the SHA-256 of every other file
  bundle.sig        where the bundle was signed
  catalogue.yaml
  bundle/           as training made it
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from offers.bundle import signature
from offers.errors import BundleError
from offers.files import os_errors, sync
from offers.record import Record
from offers.store.directory import MANIFEST, digests, new_directory, whole
from offers.store.store import Store

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.governance.market_release import MarketRelease
    from offers.policy.catalogue import Catalogue
    from offers.retrieval.bundle import MarketBundle

CATALOGUE = "catalogue.yaml"
FORMAT = 1
_NAME = re.compile(r"[a-z][a-z0-9-]*-release-[0-9a-f]{16}")
_PREFIX = "releases/"


class ReleaseManifest(Record):
    """A release's files with their SHA-256, the bundle's name, and the catalogue's name and version."""

    format: int
    contract: str
    bundle: str
    catalogue: str
    files: dict[str, str]

    def to_bytes(self) -> bytes:
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True)
class OpenRelease:
    """A verified release on this machine."""

    path: Path
    name: str
    manifest: ReleaseManifest
    bundle: "Bundle"
    catalogue: "Catalogue"

    @property
    def bundle_path(self) -> Path:
        return self.path / "bundle"

    @property
    def catalogue_path(self) -> Path:
        return self.path / CATALOGUE


def make(parent: Path, bundle: "Path | Bundle", catalogue: str) -> OpenRelease:
    """Make a release of a bundle and a catalogue below `parent`, whole or not at all.

    Parameters
    ----------
    bundle : a bundle that was loaded, or its directory, which is verified first
    catalogue : YAML text

    Raises
    ------
    BundleError
        the bundle can't be verified, or has changed since it was loaded
    CatalogueError
        the catalogue is wrong, or is for another contract
    """
    from offers.bundle import bundle as bundles
    from offers.policy import catalogue as catalogues

    source = bundles.load(bundle) if isinstance(bundle, Path) else bundle
    offered = catalogues.parse(catalogue, source.contract)
    name = f"{offered.name}-{offered.version}"
    final, manifest = assembled(parent, source, catalogue, name)
    if manifest is None:
        return load(final)
    return OpenRelease(final, final.name, manifest, replace(source, path=final / "bundle"), offered)


def assembled(
    parent: Path, source: "Bundle | MarketBundle", catalogue: str, name: str
) -> tuple[Path, ReleaseManifest | None]:
    """Put the directory of a release together; returns it with its manifest, None where it was there already.

    Parameters
    ----------
    name : name and version of the catalogue
    """
    with os_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=parent) as partial:
            # The temporary directory is its owner's alone, and a copy would be, too.
            directory = Path(partial, "release")
            directory.mkdir()
            shutil.copytree(source.path, directory / "bundle")
            if (signed := signature.beside(source.path)).is_file():
                shutil.copyfile(signed, signature.beside(directory / "bundle"))
            (directory / CATALOGUE).write_text(catalogue, "utf-8")
            files = _digests(directory, source)
            manifest = ReleaseManifest(
                format=FORMAT, contract=source.contract.name, bundle=source.name, catalogue=name, files=files
            )
            final = parent / _name(source.contract.name, manifest.to_bytes())
            if final.exists():
                return final, None
            with new_directory(final) as target:
                shutil.copytree(directory, target, dirs_exist_ok=True)
                (target / MANIFEST).write_bytes(manifest.to_bytes())
                for path in target.rglob("*"):
                    sync(path)
    return final, manifest


def _digests(directory: Path, source: "Bundle | MarketBundle") -> dict[str, str]:
    """Compute the digests of a release's files by name; refuses a bundle that has changed since it was loaded."""
    files = digests({path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()})
    for name, digest in source.manifest.files.items():
        if files.get(f"bundle/{name}") != digest:
            raise BundleError(f"bundle {source.path}: {name} was changed since it was loaded: fetch it again")
    return files


def load(path: Path, signers: Sequence[Path] = ()) -> OpenRelease:
    """Open a release after checking its name, every file, the bundle's golden rows and the catalogue.

    Parameters
    ----------
    signers : public keys, one of which must have signed the bundle; without keys no signature is needed

    Raises
    ------
    BundleError
        something is missing, changed or foreign
    """
    from offers.bundle import bundle as bundles
    from offers.policy import catalogue as catalogues

    manifest, name = verify(path, signers)
    if is_of_market(path):
        raise BundleError(f"release {name} is of a market, which 'offers market serve' serves")
    bundle = bundles.load(path / "bundle", manifest.bundle)
    return OpenRelease(path, name, manifest, bundle, catalogues.load(str(path / CATALOGUE), bundle.contract))


def is_of_market(path: Path) -> bool:
    """Whether a release's directory holds the bundle of a market."""
    return (path / "bundle" / "market.yaml").exists()


def verify(path: Path, signers: Sequence[Path] = ()) -> tuple[ReleaseManifest, str]:
    """Check a release's name and the content of every file, without loading its model; returns manifest and name.

    Parameters
    ----------
    signers : as `load` says

    Raises
    ------
    BundleError
        something is missing, changed or foreign
    """
    manifest, name = _manifest(path)
    present = {name: file for name, file in whole(path).items() if name != MANIFEST}
    actual = digests(present)
    if differing := sorted(
        file for file in actual.keys() | manifest.files if actual.get(file) != manifest.files.get(file)
    ):
        raise BundleError(
            f"release {path}: {', '.join(differing)} was changed, added or removed: delete it, and fetch it again"
        )
    if signers:
        signature.check(path / "bundle", signers)
    return manifest, name


def key(name: str) -> str:
    """Name the directory of a release in a store."""
    return _PREFIX + name


def store_release(store: Store, release: "OpenRelease | MarketRelease") -> None:
    """Put a release into the store; an existing release of that name stays as it is."""
    store.put_directory(release.path, key(release.name))


def fetch(store: Store, name: str, home: Path, signers: Sequence[Path] = ()) -> OpenRelease:
    """Open a release from the store; a copy is kept below `home` and verified each time."""
    return load(local(store, name, home), signers)


def local(store: Store, name: str, home: Path) -> Path:
    """Find the copy of a release below `home`, or make it; the copy is not verified."""
    if not _NAME.fullmatch(name):
        raise BundleError(f"release {name!r}: expected a name such as shop-release-0123456789abcdef")
    path = home / "releases" / name
    if not path.exists():
        store.get_directory(key(name), path)
    return path


def _manifest(path: Path) -> tuple[ReleaseManifest, str]:
    with os_errors(path, BundleError):
        content = (path / MANIFEST).read_bytes()
    try:
        manifest = ReleaseManifest.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors()[0]
        raise BundleError(f"release {path}: {MANIFEST} is damaged or foreign: {detail['msg']}") from None
    name = _name(manifest.contract, content)
    if manifest.format != FORMAT or (_NAME.fullmatch(path.name) and path.name != name):
        raise BundleError(f"release {path}: its manifest of format {manifest.format} makes it {name}: it was changed")
    return manifest, name


def _name(contract: str, manifest: bytes) -> str:
    return f"{contract}-release-{hashlib.sha256(manifest).hexdigest()[:16]}"
