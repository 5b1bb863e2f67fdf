"""The state that results from the ledger's entries: keys, releases and champions. It depends on the entries alone."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

from offers.errors import LedgerError
from offers.governance.entries import (
    Approved,
    CanaryStepped,
    CatalogueChanged,
    Entry,
    GateJudged,
    KeyAdded,
    KeyWithdrawn,
    Promoted,
    Promoting,
    Rejected,
    ReleaseMade,
    Returned,
    RolledBack,
)
from offers.governance.keys import PublicKey

Status = Literal["candidate", "approved", "lapsed", "champion", "former", "rejected", "withdrawn"]


@dataclass(frozen=True)
class Key:
    """A key that may sign, or could until the entry `withdrawn`."""

    added: KeyAdded
    withdrawn: int | None = None

    @cached_property
    def public(self) -> PublicKey:
        """The public key that verifies its signatures, parsed once for all entries."""
        return PublicKey(self.added.public)


@dataclass(frozen=True)
class Approval:
    """An approval, and the key that gave it."""

    key: str
    at: datetime
    act: Approved


@dataclass(frozen=True)
class Release:
    """A release in the ledger; `makers` are the keys that made it or trained its bundle."""

    act: ReleaseMade
    number: int
    at: datetime
    makers: frozenset[str]
    approvals: tuple[Approval, ...] = ()
    rejected: Rejected | None = None
    withdrawn: int | None = None
    served: bool = False

    @property
    def name(self) -> str:
        return self.act.release

    @property
    def of_market(self) -> bool:
        """Whether its bundle is a market's, as the evidence tells."""
        return "evaluation.json" in self.act.evidence

    def lapses(self, moment: datetime) -> datetime | None:
        """Find when the release ceases to have enough approvals; None where it never had enough."""
        people = self.act.terms.people
        if not people:
            return datetime.max.replace(tzinfo=moment.tzinfo)
        untils = sorted({approval.key: approval.act.until for approval in self.approvals}.values(), reverse=True)
        return untils[people - 1] if len(untils) >= people else None


@dataclass(frozen=True)
class Line:
    """The champions of one contract, the oldest first.

    `promoting` is a promotion that is not finished yet, `steps` its canary's steps.
    """

    champions: tuple[str, ...] = ()
    promoting: Entry | None = None
    steps: tuple[Entry, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True)
class Gate:
    """The last verdict on a bundle, and the keys that ever judged it, which belong to its trainers."""

    trainers: frozenset[str]
    act: GateJudged


class State:
    """Grows by one entry at a time; `offers.governance.rules` says which entry may come next.

    Attributes
    ----------
    keys : by id
    releases : by name, in the order in which they were made
    lines : by contract
    gates : by bundle
    catalogues : SHA-256 of the newest catalogue of each contract
    last : the last entry
    """

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.releases: dict[str, Release] = {}
        self.lines: dict[str, Line] = {}
        self.gates: dict[str, Gate] = {}
        self.catalogues: dict[str, str] = {}
        self.last: Entry | None = None

    def copy(self) -> "State":
        """Copy the state, so that the copy grows independently; the values are frozen, so they are shared."""
        other = State()
        other.keys, other.releases, other.lines = dict(self.keys), dict(self.releases), dict(self.lines)
        other.gates, other.catalogues, other.last = dict(self.gates), dict(self.catalogues), self.last
        return other

    def champion(self, contract: str) -> Release | None:
        """The release that serves, or None."""
        champions = self.line(contract).champions
        return self.releases[champions[-1]] if champions else None

    def former(self, contract: str) -> Release | None:
        """Find the release that a rollback returns to: the last earlier champion that was not withdrawn or rejected."""
        for name in reversed(self.line(contract).champions[:-1]):
            release = self.releases[name]
            if release.withdrawn is None and release.rejected is None:
                return release
        return None

    def challenger(self, contract: str) -> Release | None:
        """Find the newest release that could replace the champion."""
        champion = self.champion(contract)
        for release in reversed(self.releases.values()):
            if release.act.contract == contract and not (release.served or release.rejected or release.withdrawn):
                return release if champion is None or release.number > champion.number else None
        return None

    def line(self, contract: str) -> Line:
        """Get the champions of a contract; empty where none ever served."""
        return self.lines.get(contract, Line())

    def release(self, name: str) -> Release:
        """Find a release by its name, or by an unambiguous beginning; raises `LedgerError` where there is none."""
        names = [name] if name in self.releases else [full for full in self.releases if name and full.startswith(name)]
        if len(names) != 1:
            expected = "'offers model list' names them" if not names else f"it begins {', '.join(names)}"
            raise LedgerError(f"release {name!r}: there is no such release; {expected}")
        return self.releases[names[0]]

    def status(self, release: Release, moment: datetime) -> Status:
        """Find a release's status at a moment."""
        champion = self.champion(release.act.contract)
        if champion is not None and champion.name == release.name:
            return "champion"
        if release.rejected:
            return "rejected"
        if release.withdrawn is not None:
            return "withdrawn"
        lapses = release.lapses(moment)
        if lapses is None:
            return "candidate"
        if lapses <= moment:
            return "lapsed"
        return "former" if release.served else "approved"

    def name_of(self, key: str) -> str:
        """Name a key's owner."""
        return self.keys[key].added.name if key in self.keys else key

    def apply(self, entry: Entry) -> None:
        """Apply an entry that the rules allow."""
        self.last = entry
        match entry.act:
            case KeyAdded() as act:
                self.keys[act.key] = Key(act)
            case KeyWithdrawn() as act:
                self.keys[act.key] = replace(self.keys[act.key], withdrawn=entry.number)
            case GateJudged() as act:
                trainers = self.gates[act.bundle].trainers if act.bundle in self.gates else frozenset()
                self.gates[act.bundle] = Gate(trainers | {entry.actor}, act)
            case ReleaseMade() as act:
                makers = self.gates[act.bundle].trainers | {entry.actor}
                self.releases[act.release] = Release(act, entry.number, entry.at, makers)
                if "catalogue.yaml" in act.evidence:
                    self.catalogues[act.contract] = act.evidence["catalogue.yaml"]
            case CatalogueChanged() as act:
                self.catalogues[act.contract] = act.after
            case Approved() as act:
                self._approve(Approval(entry.actor, entry.at, act))
            case Rejected() as act:
                self._change(act.release, rejected=act)
            case Promoting() as act:
                self._move(act.release, promoting=entry, steps=())
            case CanaryStepped() as act:
                line = self.line(self.releases[act.release].act.contract)
                self._move(act.release, steps=(*line.steps, entry))
            case Promoted() | RolledBack() | Returned() as act:
                self._settle(entry, act)

    def _approve(self, approval: Approval) -> None:
        release = self.releases[approval.act.release]
        approvals = (*release.approvals, approval)
        enough = len({approval.key for approval in approvals}) >= max(release.act.terms.people, 1)
        self._change(release.name, approvals=approvals, withdrawn=None if enough else release.withdrawn)

    def _settle(self, entry: Entry, act: Promoted | RolledBack | Returned) -> None:
        champions = self.line(self.releases[act.release].act.contract).champions
        if isinstance(act, Returned):
            if self.line(self.releases[act.release].act.contract).steps:
                # It has answered customers, which those who approved it could not know of.
                self._change(act.release, withdrawn=entry.number, approvals=())
            self._move(act.release, promoting=None, steps=())
        elif isinstance(act, RolledBack):
            # The release failed in production, so its old approvals no longer count.
            self._change(act.withdrawn, withdrawn=entry.number, approvals=())
            remainder = champions[: champions.index(act.release) + 1]
            self._move(act.release, promoting=None, steps=(), champions=remainder, since=entry.at)
        else:
            self._change(act.release, served=True)
            self._move(act.release, promoting=None, steps=(), champions=(*champions, act.release), since=entry.at)

    def _move(self, release: str, **changes: object) -> None:
        contract = self.releases[release].act.contract
        self.lines[contract] = replace(self.line(contract), **changes)  # type: ignore[arg-type]

    def _change(self, name: str, **changes: object) -> None:
        self.releases[name] = replace(self.releases[name], **changes)  # type: ignore[arg-type]


def state_of(entries: Iterable[Entry]) -> State:
    """Compute the state that results from entries."""
    state = State()
    for entry in entries:
        state.apply(entry)
    return state
