"""Secrets of a source: a URI only refers to them, and they are read when its connection is opened."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote

from offers.errors import OffersError, SourceError

ADVICE = (
    "refer to it by ${NAME}, an environment variable, or ${file:/run/secrets/NAME}, a file, and keep the secret there"
)

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE = "file:"
_USER = re.compile(r"^[\w.+-]+://[^:/?#@]*:([^@]*)@")
_HTTP_USER = re.compile(r"^https?://[^:/?#@]*:([^@/?#]*)@", re.IGNORECASE)
_KEYS = re.compile(
    r"pass|pwd|secret|token|signature|credential|(^|[-_.])(sig|key|auth)$|api.?key|access.?key", re.IGNORECASE
)
_CONNECTION_STRING = re.compile(r"(?:^|;)\s*(?:pwd|password)\s*=\s*([^;]+)", re.IGNORECASE)
_HIDDEN = "***"


def literal_secret(uri: str) -> str | None:
    """Name the part of a URI that looks like a secret written in full; None where all secrets are references.

    Examples
    --------
    >>> literal_secret("postgresql://reader:tiger@warehouse/bank")
    'a password'
    >>> literal_secret("https://bank.example/rows.csv?sig=${SIGNATURE}") is None
    True
    """
    bare = _REFERENCE.sub("", uri)
    user = (_HTTP_USER if bare.lower().startswith("http") else _USER).match(bare)
    if user and user[1]:
        return "a password"
    query = bare.partition("?")[2].partition("#")[0] if "://" in bare else ""
    for key, value in parse_qsl(query):
        if _KEYS.search(key) or _CONNECTION_STRING.search(value):
            return f"a secret, {key!r}"
    return None


def refuse_literal(uri: str, where: str, error: type[OffersError] = SourceError) -> None:
    """Raise `error` where a URI holds a secret; the message does not repeat the secret."""
    if secret := literal_secret(uri):
        raise error(f"{where}: it holds {secret}, which would be copied to reports, bundles and logs: {ADVICE}")


@dataclass(frozen=True)
class Opened:
    """A URI that contains its secrets: only a driver may see it."""

    uri: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def hidden(self, text: str) -> str:
        """Replace the secrets in a text."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN).replace(quote(secret, safe=""), _HIDDEN)
        return text

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Hide the secrets in the messages of errors that the block raises."""
        try:
            yield
        except OffersError as error:
            if (text := self.hidden(str(error))) == str(error):
                raise
            raise type(error)(text, error.passes) from None


def opened(uri: str, environment: Mapping[str, str] = os.environ) -> Opened:
    """Fill in the secrets that a URI refers to.

    A secret that is the whole URI is taken as it is; a secret within a URI is percent-encoded.

    Raises
    ------
    SourceError
        a variable or file that the URI refers to is missing or empty
    """
    secrets: list[str] = []
    whole = _REFERENCE.fullmatch(uri) is not None

    def secret(reference: re.Match[str]) -> str:
        secrets.append(_read(reference[1], environment))
        return secrets[-1] if whole else quote(secrets[-1], safe="")

    return Opened(_REFERENCE.sub(secret, uri), tuple(secrets))


def _read(name: str, environment: Mapping[str, str]) -> str:
    if name.startswith(_FILE):
        path = Path(name.removeprefix(_FILE))
        try:
            text = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError, ValueError):
            raise SourceError(f"source ${{{name}}}: expected a file of text at {path}, which can't be read") from None
    elif _NAME.fullmatch(name):
        text = environment.get(name, "")
    else:
        raise SourceError(f"source ${{{name}}}: expected the name of an environment variable, or file:PATH")
    if not text:
        kind = "file" if name.startswith(_FILE) else "environment variable"
        raise SourceError(f"source ${{{name}}}: this {kind} is not set: put the secret there")
    return text
