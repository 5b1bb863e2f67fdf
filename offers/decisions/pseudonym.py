"""Pseudonyms of customers in the decision log: keyed hashes, which only the holder of the key can compute."""

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from offers.errors import StorageError
from offers.files import os_errors

_KEY_BYTES, _BLOCK_BYTES = 32, 64


@dataclass(frozen=True)
class Pseudonyms:
    """HMAC-SHA-256 of customer ids.

    Attributes
    ----------
    key_id : names the key without revealing it; each event has it, so that readers know which key they need
    """

    key: bytes = field(repr=False)

    @cached_property
    def key_id(self) -> str:
        return hashlib.sha256(b"offers pseudonym key\0" + self.key).hexdigest()[:12]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the key: 64 hexadecimal digits.

        Raises
        ------
        StorageError
            the file can't be read, or does not hold a key
        """
        with os_errors(path):
            text = path.read_text("ascii", errors="replace").strip()
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise StorageError(
                f"{path}: expected a key of {2 * _KEY_BYTES} hexadecimal digits, got {len(text)} characters; "
                "'openssl rand -hex 32' prints one"
            )
        return cls(key)

    @classmethod
    def at(cls, path: Path) -> Self:
        """Read the key, or make one where there is none; where two processes make one at once, both use the first."""
        with os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
            if not path.exists():
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(_KEY_BYTES) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    pass
                finally:
                    temporary.unlink()
        return cls.read(path)

    def of(self, customer_id: str) -> str:
        """Compute a customer's pseudonym, 64 hexadecimal digits."""
        inner, outer = self._states
        inner, outer = inner.copy(), outer.copy()
        inner.update(customer_id.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        return outer.hexdigest()

    @cached_property
    def _states(self) -> "tuple[hashlib._Hash, hashlib._Hash]":
        """SHA-256 after the two blocks that HMAC makes of the key (RFC 2104): half of the work for a short id."""
        block = self.key.ljust(_BLOCK_BYTES, b"\0")
        inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
        return inner, outer
