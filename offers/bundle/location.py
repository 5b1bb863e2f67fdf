"""Where a bundle lies: a directory, an object, or the newest below either."""

from pathlib import Path
from typing import TYPE_CHECKING

from offers.settings import Settings

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle


def open_bundle(where: str, settings: Settings) -> "Bundle":
    """Load a bundle by path, by name in the local store, or from s3://…/<name>."""
    from offers.bundle import bundle

    path = bundle_path(where, settings)
    return bundle.load(path, expected=path.name if where.startswith("s3://") else "")


def bundle_path(where: str, settings: Settings) -> Path:
    """Directory of a bundle, not verified yet; one in s3:// is fetched first."""
    if where.startswith("s3://"):
        from offers.store import store

        prefix, _, name = where.rstrip("/").rpartition("/")
        local = settings.home / "fetched" / name
        if not local.is_dir():
            store.open_store(prefix, settings).get_directory(name, local)
        return local
    path = Path(where)
    if not path.exists() and (settings.home / "bundles" / where).is_dir():
        path = settings.home / "bundles" / where
    return path


def holds_bundles(where: str) -> bool:
    """Whether a directory or s3:// URI is no bundle itself, but a place for bundles: by its name and its manifest."""
    from offers.bundle import bundle

    path = Path(where)
    if bundle.is_name(path.name):
        return False
    return where.startswith("s3://") or (path.is_dir() and not (path / bundle.MANIFEST).exists())
