"""Verifies the whole ledger: lists each problem by its entry, and compares heads that were kept elsewhere."""

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
    """The result of a verification.

    Attributes
    ----------
    entries : number of entries
    head : the end of the ledger
    problems : faults, in the order of their entries
    notes : facts that could not be proved, and why
    """

    entries: int
    head: Head | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(store: Store, heads: Iterable[Head] = ()) -> Audit:
    """Verify every entry: its place, format and signature, its link in the chain, its key's roles, and the rules.

    Parameters
    ----------
    heads : heads of the ledger of any age, which were kept elsewhere
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
    """Find all heads in a text, each `42:` and 64 hex digits; raises `LedgerError` where there is none."""
    heads = [Head(number=int(number), digest=digest) for number, digest in _HEAD.findall(text)]
    if not heads:
        raise LedgerError(
            "head: expected a number, ':' and 64 hex digits, such as 'offers audit head' prints, or a file with one,"
            f" got {text[:80]!r}"
        )
    return heads


def _against(heads: list[Head], chain: Chain) -> list[Problem]:
    end = chain.head.number if chain.head else -1
    problems = []
    for head in heads:
        if head.number > end:
            phrase = f"entries {end + 1} to {head.number} are" if head.number > end + 1 else f"entry {head.number} is"
            problems.append(Problem(end + 1, f"the end was cut: a head kept elsewhere is of {head}, and {phrase} gone"))
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
