"""Verification of the whole ledger: every problem by its entry, and what a head kept elsewhere proves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from offers.errors import LedgerError
from offers.governance.chain import Chain, Problem
from offers.governance.entries import Head
from offers.governance.ledger import stored
from offers.store.store import Store

_HEAD = re.compile(r"(\d{1,9}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Audit:
    """What a verification has found.

    Attributes
    ----------
    entries : how many there are
    head : the end of the ledger
    problems : in the order of their entries
    notes : what was not proved, and why
    """

    entries: int
    head: Head | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(store: Store, heads: Iterable[Head] = ()) -> Audit:
    """Verify every entry: its place, form, signature, the chain, the rights of its key, and the rules.

    Parameters
    ----------
    heads : ends of the ledger as they were left elsewhere, of any age
    """
    chain = Chain()
    problems = []
    for number, content in stored(store):
        problem = chain.take(number, content) if content is not None else Problem(number, "it is missing")
        if problem is not None:
            problems.append(problem)
    by_number = sorted(heads, key=lambda head: head.number)
    problems += _against(by_number, chain)
    return Audit(len(chain.digests), chain.head, tuple(sorted(problems, key=_number)), tuple(_notes(by_number, chain)))


def heads_in(text: str) -> list[Head]:
    """Heads that stand anywhere in a text, as `42:` and 64 hex digits; raises `LedgerError` where there is none."""
    heads = [Head(number=int(number), digest=digest) for number, digest in _HEAD.findall(text)]
    if not heads:
        raise LedgerError(
            f"head: expected a number, ':' and 64 hex digits, such as 'offers audit head' prints, got {text[:80]!r}"
        )
    return heads


def _against(heads: list[Head], chain: Chain) -> list[Problem]:
    end = chain.head.number if chain.head else -1
    problems = []
    for head in heads:
        if head.number > end:
            gone = f"entries {end + 1} to {head.number} are" if head.number > end + 1 else f"entry {head.number} is"
            problems.append(Problem(end + 1, f"the end was cut: a head kept elsewhere is of {head}, and {gone} gone"))
            break
        digest = chain.digests.get(head.number)
        if digest is not None and digest != head.digest:
            differ = f"a head kept elsewhere says {head.digest[:16]}…, here is {digest[:16]}…"
            problems.append(Problem(head.number, f"{differ}: the ledger was rewritten here or before"))
            break
    return problems


def _notes(heads: list[Head], chain: Chain) -> list[str]:
    if not heads:
        return [
            "no head was given: a ledger that was cut at its end, or rewritten whole with keys of its own, looks whole"
        ]
    end = chain.head.number if chain.head else -1
    if heads[-1].number < end:
        newest = heads[-1].number
        return [
            f"the newest head given is of entry {newest}: that entries {newest + 1} to {end} are the last is not proved"
        ]
    return []


def _number(problem: Problem) -> int:
    return problem.number
