"""Who signs what a page does: a person, with a key of their own, under the name that the sign-on gives them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from offers.errors import LedgerError, ServiceError
from offers.files import os_errors
from offers.settings import Settings
from serving.app.screen import plain

WORDS = "File of your private key"


@dataclass(frozen=True)
class Key:
    """A private key: a file of this machine, or one that was handed over for a single act, with its content."""

    path: Path
    content: bytes | None = None

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Give the key's file; one that was handed over is deleted at the end."""
        if self.content is None:
            yield self.path
            return
        with os_errors(self.path), tempfile.TemporaryDirectory() as private:
            # The directory is its owner's alone.
            file = Path(private, self.path.name)
            file.write_bytes(self.content)
            yield file


def key_field(help_: str) -> Key | None:
    """Ask for a person's key: where the pages run on the person's machine by its path, else by the file itself."""
    if not Settings.from_env().pages.ranker:
        given = st.text_input(WORDS, help=plain(f"{help_} It is read here, sent nowhere."))
        return Key(Path(given)) if given else None
    words = f"{help_} It signs once, and is kept nowhere. Who hands no key to a server signs by 'offers model'."
    file: Any = st.file_uploader(WORDS, ("pem",), help=plain(words))
    return None if file is None else Key(Path(_plain_name(file.name)), file.getvalue())


def _plain_name(name: str) -> str:
    if Path(name).name != name:
        raise LedgerError(f"{name!r}: expected the name of a file, such as ann.pem")
    return name


def person() -> str:
    """Name who looks at the pages, as the sign-on in front of them does; empty where there is none.

    Raises
    ------
    ServiceError
        there is a sign-on, and it names nobody: somebody came in past it
    """
    header = Settings.from_env().pages.person_header
    name = st.context.headers.get(header, "") if header else ""
    if header and not name:
        raise ServiceError(
            f"expected the sign-on in front of these pages to name you in the header {header}, and it does not: come in"
            " by the address of the sign-on"
        )
    return name
