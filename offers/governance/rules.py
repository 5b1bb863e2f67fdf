"""The rules of the ledger: which entry may follow on a state, and whose key may write it."""

from collections.abc import Iterator
from datetime import timedelta

from offers.errors import LedgerError
from offers.governance.entries import (
    WHO,
    Approved,
    CanaryStepped,
    CatalogueChanged,
    Entry,
    KeyAdded,
    KeyWithdrawn,
    Promoted,
    Promoting,
    Rejected,
    ReleaseMade,
    Returned,
    RolledBack,
)
from offers.governance.keys import public_key
from offers.governance.state import Line, Release, State, Status
from offers.wording import counted


def check(state: State, entry: Entry) -> None:
    """Raise `LedgerError` where the rules don't allow an entry as the next one."""
    for problem in _problems(state, entry):
        raise LedgerError(problem)


def _problems(state: State, entry: Entry) -> Iterator[str]:
    act = entry.act
    if state.last is not None and entry.at < state.last.at:
        yield f"it is of {entry.at:%Y-%m-%d %H:%M:%S}, and the entry before it of {state.last.at:%Y-%m-%d %H:%M:%S}"
    yield from _actor_problems(state, entry)
    match act:
        case KeyAdded():
            yield from _key_problems(state, act)
        case KeyWithdrawn():
            yield from _withdrawal_problems(state, act)
        case ReleaseMade():
            yield from _making_problems(state, act)
        case CatalogueChanged():
            if act.before == act.after or state.catalogues.get(act.contract) != act.before:
                yield f"catalogue {act.catalogue} replaces none of contract {act.contract} that the ledger knows"
        case Approved() | Rejected():
            yield from _judging_problems(state, entry, act)
        case Promoting():
            yield from _promoting_problems(state, entry, act)
        case CanaryStepped():
            yield from _step_problems(state, act)
        case Promoted() | RolledBack() | Returned():
            yield from _settling_problems(state, act)


def _actor_problems(state: State, entry: Entry) -> Iterator[str]:
    if not state.keys:
        if not (isinstance(entry.act, KeyAdded) and entry.act.key == entry.actor and "admin" in entry.act.roles):
            yield "expected the first entry to add the key that signs it, with the role admin"
        return
    if entry.actor not in state.keys:
        yield f"key {entry.actor} is unknown here; an admin adds it: 'offers key add'"
        return
    key, kinds = state.keys[entry.actor], WHO[entry.act.kind]
    if key.withdrawn is not None:
        yield f"key {entry.actor} of {key.added.name} was withdrawn by entry {key.withdrawn}"
    if not set(kinds) & set(key.added.roles):
        roles = " or ".join(kinds)
        has = ", ".join(key.added.roles)
        yield f"{key.added.name} has no role {roles}, which '{entry.act.kind}' asks for; it has {has}"


def _key_problems(state: State, act: KeyAdded) -> Iterator[str]:
    if public_key(act.public).id != act.key:
        yield f"key {act.key} is not the one whose bytes stand there"
    if act.key in state.keys:
        yield f"key {act.key} was added before"
    if any(key.added.name == act.name and key.withdrawn is None for key in state.keys.values()):
        yield f"{act.name} has a key already; withdraw that first"


def _withdrawal_problems(state: State, act: KeyWithdrawn) -> Iterator[str]:
    key = state.keys.get(act.key)
    if key is None or key.withdrawn is not None:
        yield f"key {act.key} is unknown, or withdrawn already"
        return
    others = (key for name, key in state.keys.items() if name != act.key and key.withdrawn is None)
    if not any("admin" in other.added.roles for other in others):
        yield f"key {act.key} is the last admin's; add another first"


def _making_problems(state: State, act: ReleaseMade) -> Iterator[str]:
    if act.release in state.releases:
        yield f"release {act.release} is there already"
    gate = state.gates.get(act.bundle)
    if gate is None or not gate.act.passed:
        yield f"bundle {act.bundle} did not pass the gate" if gate else f"no gate has judged bundle {act.bundle}"


def _judging_problems(state: State, entry: Entry, act: Approved | Rejected) -> Iterator[str]:
    release, name = state.releases.get(act.release), state.name_of(entry.actor)
    if release is None:
        yield f"release {act.release}: there is no such release"
        return
    if release.rejected:
        yield f"release {act.release} was rejected: {release.rejected.reason}"
    if entry.actor in release.makers:
        yield f"{name} has made release {act.release}, and another has to judge it"
    if isinstance(act, Rejected) and act.release in _in_use(state, release.act.contract):
        yield f"release {act.release} serves, or is about to; roll it back"
    if isinstance(act, Approved):
        if any(approval.key == entry.actor and approval.act.until > entry.at for approval in release.approvals):
            yield f"{name} has approved release {act.release} already"
        if not entry.at < act.until <= entry.at + timedelta(days=release.act.terms.days):
            longest = f"within {release.act.terms.days} days of {entry.at:%Y-%m-%d}"
            yield f"the approval lapses on {act.until:%Y-%m-%d}, expected a day after it is given, {longest}"


def _in_use(state: State, contract: str) -> set[str]:
    champion, promoting = state.champion(contract), state.line(contract).promoting
    names = {champion.name} if champion else set()
    return names | ({promoting.act.release} if promoting and isinstance(promoting.act, Promoting) else set())


def _promoting_problems(state: State, entry: Entry, act: Promoting) -> Iterator[str]:
    release = state.releases.get(act.release)
    if release is None:
        yield f"release {act.release}: there is no such release"
        return
    contract = release.act.contract
    champion, former, under_way = state.champion(contract), state.former(contract), state.line(contract).promoting
    if under_way is not None:
        other = f"{state.name_of(under_way.actor)} by entry {under_way.number}"
        yield f"another promotion is under way, begun by {other}; see 'offers model list'"
    if champion is not None and champion.name == act.release:
        yield f"release {act.release} is the champion already"
    elif act.back and (former is None or former.name != act.release):
        before = f"that is {former.name}" if former else "there is no former champion"
        yield f"release {act.release} is not the one before; {before}"
    elif not act.back and (status := state.status(release, entry.at)) not in ("approved", "former"):
        yield f"release {act.release} can't be promoted: it is {_why(release, status)}"
    if act.canary is not None and (act.back or champion is None):
        yield "a canary needs a champion whose customers it takes, and no rollback is one: leave the steps out"


def _step_problems(state: State, act: CanaryStepped) -> Iterator[str]:
    release = state.releases.get(act.release)
    line = state.line(release.act.contract) if release else Line()
    promoting = line.promoting.act if line.promoting else None
    if not isinstance(promoting, Promoting) or promoting.release != act.release or promoting.canary is None:
        yield f"no promotion of release {act.release} by steps is under way"
        return
    shares = (*promoting.canary.shares, 1.0)[len(line.steps) :]
    if act.share not in shares[:1]:
        yield f"the canary's next step: expected a share of {', '.join(map(str, shares[:1])) or 'no'}, got {act.share}"


def _settling_problems(state: State, act: Promoted | RolledBack | Returned) -> Iterator[str]:
    release = state.releases.get(act.release)
    promoting = state.line(release.act.contract).promoting if release else None
    if (
        release is None
        or promoting is None
        or not isinstance(promoting.act, Promoting)
        or promoting.act.release != act.release
    ):
        yield f"no promotion of release {act.release} is under way"
        return
    if not isinstance(act, Returned) and promoting.act.back != isinstance(act, RolledBack):
        way = "rollback" if promoting.act.back else "promotion"
        yield f"entry {promoting.number} has begun a {way}, not what this ends"
    plan, steps = promoting.act.canary, state.line(release.act.contract).steps
    if isinstance(act, Promoted) and plan is not None and len(steps) <= len(plan.shares):
        yield f"the canary of release {act.release} is at step {len(steps)} of {len(plan.shares) + 1}, not at its end"
    champion = state.champion(release.act.contract)
    if isinstance(act, RolledBack) and (champion is None or champion.name != act.withdrawn):
        yield f"release {act.withdrawn} is not the champion"


def _why(release: Release, status: Status) -> str:
    if status == "candidate":
        count, people = len({approval.key for approval in release.approvals}), release.act.terms.people
        return f"approved by {count} of {counted(people, 'person', 'people')}"
    if status == "lapsed":
        return "lapsed: its approvals have run out, and have to be given again"
    return status
