"""offers model canary: a promotion by steps."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.key import KeyOption, to_write
from cli.mirror import mirrored

if TYPE_CHECKING:
    from offers.governance.state import Line, State

ReleaseArgument = Annotated[str, typer.Argument(help="A release's name, or how it begins.")]


def canary(
    release: ReleaseArgument,
    key: KeyOption = "",
    steps: Annotated[str, typer.Option(help="Shares of the customers, in percent.")] = "5,25,50",
    bake: Annotated[str, typer.Option(help="Shortest time of a step, such as 30m, 12h or 7d.")] = "1h",
    customers: Annotated[int, typer.Option(help="Fewest customers of each arm who are answered in a step.")] = 500,
    outcomes: Annotated[int, typer.Option(min=0, help="Fewest of them whose outcomes are known at its end.")] = 0,
) -> None:
    """Let a release serve by steps, beside the champion, where 'offers serve' runs.

    Where its latency, its errors, its earnings or its exposure of a protected group are worse than the champion's, the
    champion answers everybody again.
    """
    from offers.errors import ServiceError
    from offers.governance.approval import begin
    from offers.governance.canary import plan
    from offers.governance.market_release import fetch_any
    from offers.settings import Settings
    from serving.local import directory_of, follows_ledger

    settings, settled = Settings.from_env(), plan(steps, bake, customers, outcomes)
    with mirrored(settings):
        ledger, signer = to_write(key)
        record = ledger.state().release(release)
        if not follows_ledger(directory_of(settings.home, record.of_market)):
            service = "offers market serve" if record.of_market else "offers serve"
            raise ServiceError(f"a canary needs customers: start '{service}' first, or use 'offers model promote'")
        fetch_any(ledger.store, record.name, settings.home.resolve(), settings.signers)
        begun = begin(ledger, signer, record.name, settled)
    shares = ", ".join(f"{share:.0%}" for share in (*settled.shares, 1.0))
    typer.echo(f"entry {begun.number}: a canary begins, with {shares} of the customers")
    typer.echo("'offers model list' tells how far it is, and 'offers model rollback' stops it")


def under_way(state: "State", line: "Line") -> str:
    """Say which promotion is under way, and how far a canary has come."""
    from offers.governance.canary import canary_of

    assert line.promoting is not None
    sentence = f"under way: {state.name_of(line.promoting.actor)} began entry {line.promoting.number}"
    canary = canary_of(line)
    if canary is None or not canary.steps:
        return sentence
    since = f"{canary.steps[-1][1]:%Y-%m-%d %H:%M}"
    return f"{sentence}, a canary; {canary.release} answers {canary.share:.0%} of the customers since {since}"
