"""Keys that sign entries of the ledger (Ed25519). A private key is a file that only its owner may read."""

import base64
import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from offers.errors import LedgerError
from offers.files import os_errors, sync

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")


@dataclass(frozen=True)
class PublicKey:
    """The public half of a key; `text` is the key's 32 bytes in base64."""

    text: str

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the key."""
        return hashlib.sha256(base64.b64decode(self.text)).hexdigest()[:16]

    def signed(self, content: bytes, signature: str) -> bool:
        """Whether a signature, in base64, is this key's signature of the content."""
        try:
            self._key.verify(base64.b64decode(signature, validate=True), content)
        except (InvalidSignature, ValueError):
            return False
        return True

    @cached_property
    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(self.text))


def public_key(text: str) -> PublicKey:
    """Read a public key from base64; raises `LedgerError` where the text is not a key."""
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise LedgerError(f"public key: expected 32 bytes in base64, got {text.strip()[:60]!r}")
    return PublicKey(base64.b64encode(raw).decode())


@dataclass(frozen=True)
class Signer:
    """Somebody who signs: a person or a service, by name.

    `account` is what a cluster, or the sign-on in front of the pages, calls the caller; it is empty elsewhere.
    """

    name: str
    private: Ed25519PrivateKey
    account: str = ""

    @property
    def public(self) -> PublicKey:
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return PublicKey(base64.b64encode(raw).decode())

    def sign(self, content: bytes) -> str:
        """Sign a content; returns the signature in base64."""
        return base64.b64encode(self.private.sign(content)).decode()


def new_key(path: Path) -> Signer:
    """Make a private key in the file `path`, which is named after its owner: `ann.pem`.

    Raises
    ------
    StorageError
        the file exists already, or can't be written
    LedgerError
        the file's name is not the name of an owner
    """
    signer = Signer(_owner(path), Ed25519PrivateKey.generate())
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    content = signer.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            sync(temporary)
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return signer


def read_key(path: Path) -> Signer:
    """Read a private key in PEM.

    Raises
    ------
    LedgerError
        there is no such file, or it does not hold an Ed25519 key without a password
    """
    with os_errors(path, LedgerError):
        content = path.read_bytes()
    key = None
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(content, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise LedgerError(
            f"{path}: expected a private Ed25519 key in PEM without a password; 'offers key new' makes one"
        )
    return Signer(_owner(path), key)


def _owner(path: Path) -> str:
    if not _NAME.fullmatch(path.stem):
        raise LedgerError(
            f"{path}: expected a file named after the key's owner, such as ann.pem; letters a-z, digits, '.', '_', '@'"
        )
    return path.stem
