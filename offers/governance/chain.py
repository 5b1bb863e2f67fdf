"""The chain of entries as bytes: checks that each entry is unchanged, in its place, and signed by a key that may."""

import json
from dataclasses import dataclass

from pydantic import ValidationError

from offers.errors import LedgerError
from offers.governance import rules
from offers.governance.entries import FIRST, Act, Entry, Head, KeyAdded, canonical, digest_of
from offers.governance.keys import Signer, public_key
from offers.governance.state import State


@dataclass(frozen=True)
class Problem:
    """A fault of one entry."""

    number: int
    sentence: str

    def __str__(self) -> str:
        return f"entry {self.number}: {self.sentence}"


class Chain:
    """Takes the bytes of entries one after another, and finds the fault of each.

    Attributes
    ----------
    entries : the valid entries
    state : the state that they result in
    digests : SHA-256 of the bytes of every entry, valid or not, by number
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.state = State()
        self.digests: dict[int, str] = {}

    @property
    def head(self) -> Head | None:
        """The end of the ledger, or None for an empty one."""
        number = max(self.digests, default=None)
        return None if number is None else Head(number=number, digest=self.digests[number])

    def take(self, number: int, content: bytes) -> Problem | None:
        """Take the entry stored under a number; returns its fault, or None."""
        before = self.digests.get(number - 1, FIRST if number == 0 else "")
        self.digests[number] = digest_of(content)
        try:
            entry = _parsed(content)
            self._check(number, entry, content, before)
            rules.check(self.state, entry)
        except LedgerError as error:
            return Problem(number, str(error))
        self.state.apply(entry)
        self.entries.append(entry)
        return None

    def _check(self, number: int, entry: Entry, content: bytes, before: str) -> None:
        if entry.number != number:
            raise LedgerError(f"it is entry {entry.number}, in the place of another")
        key = self.state.keys.get(entry.actor)
        if key is not None:
            public = key.public
        elif isinstance(entry.act, KeyAdded) and number == 0 and not self.state.keys:
            public = public_key(entry.act.public)
        else:
            raise LedgerError(f"it is signed by key {entry.actor}, which no entry before it has added")
        if public.id != entry.actor or not public.signed(_unsigned(content), entry.signature):
            raise LedgerError("it was changed after it was signed")
        if before and entry.before != before:
            raise LedgerError(f"it does not follow entry {number - 1}, which was replaced after this one was written")


def signed(number: int, before: str, act: Act, signer: Signer, at: str) -> bytes:
    """Write a new entry as bytes, and sign it."""
    content = {
        "number": number,
        "at": at,
        "actor": signer.public.id,
        "act": act.model_dump(mode="json"),
        "before": before,
    }
    if signer.account:
        content["account"] = signer.account
    return canonical(content | {"signature": signer.sign(canonical(content))})


def _parsed(content: bytes) -> Entry:
    try:
        fields = json.loads(content)
        if not isinstance(fields, dict) or canonical(fields) != content:
            raise LedgerError("it was changed: expected the ledger's own form, sorted and without spaces")
        return Entry.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"])) or "it"
        raise LedgerError(f"it was changed, or is of a newer version: {where}: {detail['msg']}") from None
    except (ValueError, RecursionError):
        raise LedgerError("it was changed: expected one line of JSON") from None


def _unsigned(content: bytes) -> bytes:
    """Cut out the signed part of an entry: everything except its signature, which is the last field."""
    return content[: content.rindex(b',"signature":')] + b"}\n"
