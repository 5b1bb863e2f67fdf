"""Where a bundle lies: in a directory or in the object store."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from offers.errors import GateError
from offers.settings import Settings
from offers.wording import some

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.contract.contract import Contract


def open_bundle(where: str, settings: Settings) -> "Bundle":
    """Load a bundle by path, by name in the local store, or from s3://…/<name>.

    Where the settings name signers, one of them must have signed it.
    """
    from offers.bundle import bundle, signature

    path = bundle_path(where, settings)
    if settings.signers:
        signature.check(path, settings.signers)
    return bundle.load(path, expected=path.name if where.startswith("s3://") else "")


def open_champion(where: str, contract: "Contract", settings: Settings) -> "Bundle":
    """Load the bundle that a candidate of a contract has to beat.

    Raises
    ------
    GateError
        the bundle has another contract, another outcome or other inputs, so the two can't be compared
    """
    champion = open_bundle(where, settings)
    if difference := difference_of(champion, contract):
        raise GateError(
            f"champion {champion.name}: expected one of contract {contract.name} as it is now, but {difference}; name"
            " another champion, or train without one"
        )
    return champion


def difference_of(bundle: "Bundle", contract: "Contract") -> str | None:
    """Say how the inputs or the outcome of a bundle differ from a contract's; None where they are the same."""
    from offers.model.encoder import Encoder

    if bundle.contract.name != contract.name:
        return f"it is of contract {bundle.contract.name}"
    theirs = {feature.name: feature for feature in bundle.model.encoder.features}
    ours = {feature.name: feature for feature in Encoder.of(contract).features}
    if lacking := [name for name in ours if name not in theirs]:
        return f"it does not know {some(lacking)}"
    if extra := [name for name in theirs if name not in ours]:
        return f"it needs {some(extra)}"
    if differences := [name for name in ours if ours[name] != theirs[name]]:
        return f"it knows {some(differences)} with other values"
    if list(ours) != list(theirs):
        return "its columns have another order"
    outcomes = {(one.target.column, one.target.positive) for one in (bundle.contract, contract)}
    return None if len(outcomes) == 1 else "its outcome is another"


def bundle_path(where: str, settings: Settings) -> Path:
    """Find a bundle's directory without verifying it; a bundle in s3:// is downloaded first."""
    if where.startswith("s3://"):
        from offers.bundle.signature import beside
        from offers.store import store

        prefix, _, name = where.rstrip("/").rpartition("/")
        local = settings.home / "fetched" / name
        place = store.open_store(prefix, settings)
        if not local.is_dir():
            place.get_directory(name, local)
        if settings.signers and place.exists(f"{name}.sig"):
            beside(local).write_bytes(place.read_bytes(f"{name}.sig"))
        return local
    path = Path(where)
    if not path.exists() and (settings.home / "bundles" / where).is_dir():
        path = settings.home / "bundles" / where
    return path


def is_of_market(where: str, settings: Settings) -> bool:
    """Whether a bundle is a market's; one in s3:// is downloaded first."""
    return (bundle_path(where, settings) / "market.yaml").exists()


def holds_bundles(where: str) -> bool:
    """Whether a directory or s3:// URI holds bundles rather than being one; its name and its manifest tell."""
    from offers.bundle import bundle, directory

    path = Path(where)
    if bundle.is_name(path.name):
        return False
    return where.startswith("s3://") or (path.is_dir() and not (path / directory.MANIFEST).exists())


def name_of(manifest: bytes, contract: str) -> str:
    """Name a bundle by the content of its manifest."""
    return f"{contract}-{hashlib.sha256(manifest).hexdigest()[:16]}"
