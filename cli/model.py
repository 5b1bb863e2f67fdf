"""offers model: releases, who approved them, which one serves, and how to change that."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.canary import ReleaseArgument, canary, under_way
from cli.card import card, find, open_release
from cli.key import KeyOption, to_write
from cli.mirror import mirrored, sync
from offers.wording import counted

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

    from offers.governance.entries import Entry
    from offers.governance.keys import Signer
    from offers.governance.ledger import Ledger
    from offers.governance.state import Release, State

app = typer.Typer(no_args_is_help=True, help="Releases: list, compare, approve, promote, roll back.")

app.command("sync")(sync)
app.command("canary")(canary)
app.command("card")(card)

ContractOption = Annotated[str, typer.Option("--contract", "-c", help="Name of the contract.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the ledger.")]
TAKEN_SECONDS = 120
"""How long a service may take to switch before the command stops waiting."""


@app.command("list")
def list_(contract: Annotated[str, typer.Option("--contract", "-c", help="Only those of one contract.")] = "") -> None:
    """List releases, the newest last. Exit code 3: the approval of a champion has lapsed."""
    from offers.governance.access import open_ledger
    from offers.settings import Settings

    ledger = open_ledger(Settings.from_env())
    state, moment = ledger.state(), ledger.clock()
    releases_table(state, moment, contract)
    champions = filter(None, map(state.champion, state.lines))
    lapsed = [champion for champion in champions if _lapsed(champion, moment)]
    for name, line in state.lines.items():
        if line.promoting is not None and (not contract or contract == name):
            typer.echo(under_way(state, line))
    for champion in lapsed:
        typer.echo(f"ALARM: the approval of champion {champion.name} has lapsed; approve it again, or promote another")
    if lapsed:
        raise typer.Exit(3)


@app.command()
def show(release: ReleaseArgument) -> None:
    """Show a release, its evidence, and every entry about it."""
    from cli.screen import console, facts_table
    from offers.governance.comparison import facts_of

    ledger, state, record = find(release)
    opened = open_release(ledger, record.name)
    facts = {"release": record.name, "status": state.status(record, ledger.clock()), "catalogue": record.act.catalogue}
    approvals, days = counted(record.act.terms.people, "approval"), counted(record.act.terms.days, "day")
    facts |= {"asks for": f"{approvals}, for {days} at most"}
    console.print(facts_table(facts | facts_of(opened)))
    for entry in ledger.entries():
        if getattr(entry.act, "release", "") == record.name or getattr(entry.act, "withdrawn", "") == record.name:
            typer.echo(
                f"entry {entry.number}  {entry.at:%Y-%m-%d %H:%M:%S}  {state.name_of(entry.actor)}: {entry.act.kind}"
            )


@app.command()
def diff(first: ReleaseArgument, second: ReleaseArgument) -> None:
    """Show what differs between two releases: data, parameters, figures, offers."""
    from cli.screen import plain_table
    from offers.governance.comparison import differences

    ledger, _, one = find(first)
    _, _, other = find(second)
    table = plain_table("", one.name, other.name)
    for name, before, after in differences(open_release(ledger, one.name), open_release(ledger, other.name)):
        table.add_row(name, before, after)
    _print(table if table.row_count else "the two are the same")


@app.command()
def add(
    bundle: Annotated[str, typer.Argument(help="A bundle's path, its name in the local store, or its s3:// URI.")],
    catalogue: Annotated[str, typer.Option(help="Name of a shipped catalogue, or a YAML file.")] = "",
    key: KeyOption = "",
) -> None:
    """Make a release of a bundle and a catalogue: a new catalogue for the champion's bundle, for instance."""
    from cli.release import register_bundle
    from offers.settings import Settings

    settings = Settings.from_env()
    with mirrored(settings):
        ledger, signer = to_write(key)
        typer.echo(register_bundle(ledger, signer, bundle, catalogue, settings))


@app.command()
def approve(
    release: ReleaseArgument,
    key: KeyOption = "",
    condition: Annotated[list[str], typer.Option(help="Under which it holds; may be given again.")] = [],  # noqa: B006
    evidence: Annotated[
        list[Path],
        typer.Option(help="A file that was seen beside the bundle's own, such as a page; may be given again."),
    ] = [],  # noqa: B006
    days: Annotated[int | None, typer.Option(min=1, help="After which it lapses; the contract's by default.")] = None,
) -> None:
    """Let a release be promoted. Somebody else's key than the one that made it signs."""
    from offers.files import os_errors, sha256_of
    from offers.governance.approval import approve as approve_release
    from offers.settings import Settings

    with mirrored(Settings.from_env()):
        ledger, signer = to_write(key)
        record = ledger.state().release(release)
        open_release(ledger, record.name)
        proofs = dict(record.act.evidence)
        for path in evidence:
            with os_errors(path):
                proofs[path.name] = sha256_of(path)
        entry = approve_release(ledger, signer, record.name, proofs, condition, days)
    state = ledger.state()
    count, people = len({approval.key for approval in state.releases[record.name].approvals}), record.act.terms.people
    typer.echo(f"entry {entry.number}: {signer.name} approves {record.name}, having seen {', '.join(proofs)}")
    status = state.status(state.releases[record.name], ledger.clock())
    typer.echo(f"{count} of {counted(people, 'approval')}; it is {status}")


@app.command()
def reject(release: ReleaseArgument, reason: ReasonOption, key: KeyOption = "") -> None:
    """Refuse a release for good."""
    from offers.governance.approval import reject as reject_release
    from offers.settings import Settings

    with mirrored(Settings.from_env()):
        ledger, signer = to_write(key)
        entry = reject_release(ledger, signer, ledger.state().release(release).name, reason)
    typer.echo(f"entry {entry.number}: {signer.name} rejects it")


@app.command()
def promote(release: ReleaseArgument, key: KeyOption = "") -> None:
    """Let a release serve; 'offers serve' switches to it between two requests, where it runs."""
    from offers.governance.approval import begin
    from offers.settings import Settings

    with mirrored(Settings.from_env()):
        ledger, signer = to_write(key)
        record = ledger.state().release(release)
        _check(ledger, record.name, record.of_market)
        _see_through(ledger, signer, begin(ledger, signer, record.name), record.of_market)


@app.command()
def rollback(contract: ContractOption, reason: ReasonOption, key: KeyOption = "") -> None:
    """Return to the release that served before; the one that serves now is withdrawn. A canary is stopped."""
    from offers.governance.approval import begin_back, give_up
    from offers.governance.entries import Promoting
    from offers.settings import Settings

    with mirrored(Settings.from_env()):
        ledger, signer = to_write(key)
        line = ledger.state().line(contract)
        begun = line.promoting
        if begun is not None and isinstance(begun.act, Promoting) and begun.act.canary is not None:
            end = give_up(ledger, signer, begun, reason)
            typer.echo(f"entry {end.number}: returned; the champion answers everybody again")
            return
        state = ledger.state()
        former, present = state.former(contract), state.champion(contract)
        of_market = present is not None and present.of_market
        if former is not None:
            _check(ledger, former.name, of_market)
        _see_through(ledger, signer, begin_back(ledger, signer, contract, reason), of_market)


def _check(ledger: "Ledger", name: str, of_market: bool) -> None:
    """Verify a release before it is promoted; where a service runs, that loads the model, and this command does not."""
    from offers.governance import release as releases
    from offers.settings import Settings
    from serving.local import directory_of, follows_ledger

    settings = Settings.from_env()
    if follows_ledger(directory_of(settings.home, of_market)):
        releases.verify(releases.local(ledger.store, name, settings.home.resolve()), settings.signers)
    else:
        open_release(ledger, name)


def _see_through(ledger: "Ledger", signer: "Signer", begun: "Entry", of_market: bool) -> None:
    """Wait for the service that follows the ledger; if none runs, the verified release will be served next."""
    from cli.market_follow import route_market
    from offers.errors import ServiceError
    from offers.governance.approval import finish
    from offers.settings import Settings
    from serving.local import directory_of, follows_ledger

    settings = Settings.from_env()
    if not follows_ledger(directory_of(settings.home, of_market)):
        if settings.ledger.startswith("s3://") and of_market:
            end = route_market(ledger, signer, begun, settings)
            typer.echo(f"entry {end.number}: {end.act.kind}; recommenders that follow the routing take it up")
            return
        if settings.ledger.startswith("s3://"):
            typer.echo(f"entry {begun.number}: promoting; 'offers deploy' rolls it out on the cluster, and ends this")
            return
        end = finish(ledger, signer, begun)
        typer.echo(f"entry {end.number}: {end.act.kind}; no service runs here, the next begins with it")
        return
    deadline = time.monotonic() + TAKEN_SECONDS
    while time.monotonic() < deadline:
        for entry in ledger.entries()[begun.number + 1 :]:
            if entry.act.kind in ("promoted", "rolled back"):
                typer.echo(f"entry {entry.number}: {entry.act.kind}")
                return
            if entry.act.kind == "returned":
                raise ServiceError(f"entry {entry.number}: the champion stays: {getattr(entry.act, 'reason', '')}")
        time.sleep(0.1)
    raise ServiceError(f"entry {begun.number} is under way for {TAKEN_SECONDS} s; see the logs of 'offers serve'")


def releases_table(state: "State", moment: "datetime", contract: str = "") -> None:
    """Print the releases of a contract, or of all, with who approved them."""
    from cli.screen import plain_table
    from offers.governance.listing import HEAD, row

    table = plain_table(*HEAD)
    for release in state.releases.values():
        if not contract or release.act.contract == contract:
            table.add_row(*row(state, release, moment))
    _print(table)


def _print(table: "Table | str") -> None:
    """Print without cutting names, whatever the width of the terminal."""
    from rich.console import Console

    from cli.screen import console

    Console(highlight=False, width=max(console.width, 180)).print(table)


def _lapsed(release: "Release", moment: "datetime") -> bool:
    lapses = release.lapses(moment)
    return lapses is not None and lapses <= moment
