"""Opens the ledger and the signing key that the settings of this process name."""

import getpass
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from offers.errors import LedgerError, OffersError, StorageError
from offers.governance.keys import Signer, new_key, read_key
from offers.governance.ledger import Ledger, enrol, stored_head
from offers.settings import Settings
from offers.store.store import Store, open_store


def governed_store(settings: Settings) -> Store:
    """Open the store of ledger and releases."""
    return open_store(settings.ledger or str(settings.home.resolve()), settings)


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger for reading."""
    return Ledger(governed_store(settings))


def head_now(settings: Settings) -> str:
    """Write the end of the ledger as text, for a place that is kept elsewhere; empty where none can be read."""
    try:
        return str(stored_head(governed_store(settings)) or "")
    except OffersError:
        return ""


def open_to_write(settings: Settings, key: Path | None = None) -> tuple[Ledger, Signer]:
    """Open the ledger and the key that signs new entries; an empty ledger begins by giving that key every role.

    Parameters
    ----------
    key : file of a private key; by default that of the settings, else one in `home`, which is made at first use

    Raises
    ------
    LedgerError
        the file holds no key
    """
    ledger, signer = open_ledger(settings), signer_of(settings, key)
    if ledger.head is None:
        enrol(ledger, signer, ("admin", "trainer", "approver", "operator"))
    return ledger, signer


def member_key(settings: Settings) -> Signer:
    """Read the settings' key for a service, which never begins a ledger: an admin has added its key.

    Raises
    ------
    LedgerError
        the settings name no key, or the file holds none
    """
    if settings.key is None:
        raise LedgerError("expected OFFERS_KEY to name the file of this service's key, and it is empty")
    return replace(read_key(settings.key), account=settings.account)


def signer_of(settings: Settings, key: Path | None = None) -> Signer:
    """Read the key that signs: `key`, or that of the settings, or else one in `home`, which is made at first use."""
    file = key or settings.key
    if file is None:
        file = settings.home / "keys" / f"{_user()}.pem"
        if not file.exists():
            # Another process may have made the key in the meantime.
            with suppress(StorageError):
                new_key(file)
    return replace(read_key(file), account=settings.account)


def _user() -> str:
    try:
        name = getpass.getuser().lower()
    except (OSError, KeyError):
        name = ""
    return name if re.fullmatch(r"[a-z0-9][a-z0-9._@-]{0,62}", name) else "local"
