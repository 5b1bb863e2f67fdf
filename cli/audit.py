"""offers audit: verify the ledger, print its end to keep elsewhere, and read it."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offers.wording import counted

if TYPE_CHECKING:
    from offers.governance.entries import Head

app = typer.Typer(no_args_is_help=True, help="Verify and read the ledger of who decided what.")

HeadOption = Annotated[
    list[str],
    typer.Option(
        "--head",
        help="An end of the ledger kept elsewhere, as N:SHA256, a file that holds some, or the tables of decisions.",
    ),
]


@app.command()
def verify(head: HeadOption = []) -> None:  # noqa: B006
    """Verify every entry, its signature, the chain and the rules. Exit code 3: something is wrong."""
    from offers.governance.access import governed_store
    from offers.governance.audit import verify as verify_ledger
    from offers.settings import Settings

    audit = verify_ledger(governed_store(Settings.from_env()), _heads(head))
    for problem in audit.problems:
        typer.echo(str(problem))
    for note in audit.notes:
        typer.echo(f"note: {note}")
    if not audit.holds:
        typer.echo(f"{counted(len(audit.problems), 'problem')} in {counted(audit.entries, 'entry', 'entries')}")
        raise typer.Exit(3)
    entries = "1 entry holds" if audit.entries == 1 else f"{audit.entries} entries hold"
    typer.echo(f"{entries}; the head is {audit.head or 'none: the ledger is empty'}")


@app.command()
def head() -> None:
    """Print the end of the ledger: keep it where those who can write the ledger can't."""
    from offers.errors import LedgerError
    from offers.governance.access import open_ledger
    from offers.settings import Settings

    end = open_ledger(Settings.from_env()).head
    if end is None:
        raise LedgerError("the ledger is empty, and has no head")
    typer.echo(str(end))


@app.command()
def log(since: Annotated[int, typer.Option(min=0, help="Number of the first entry.")] = 0) -> None:
    """Print every entry, a line of JSON each, with its actor's name."""
    import json

    from offers.governance.access import open_ledger
    from offers.settings import Settings

    ledger = open_ledger(Settings.from_env())
    state = ledger.state()
    for entry in ledger.entries()[since:]:
        fields = entry.model_dump(mode="json", exclude={"signature", "before"})
        typer.echo(json.dumps(fields | {"name": state.name_of(entry.actor)}, ensure_ascii=False))


def _heads(texts: Iterable[str]) -> list["Head"]:
    from offers.decisions.history import ledger_heads
    from offers.files import os_errors
    from offers.governance.audit import heads_in
    from offers.settings import Settings
    from offers.store.delta import DeltaTables

    heads = []
    for text in texts:
        path = Path(text)
        if text.startswith("s3://") or path.is_dir():
            heads += heads_in(" ".join(ledger_heads(DeltaTables.at(text, Settings.from_env()))))
        elif len(text) < 256 and path.is_file():
            with os_errors(path):
                heads += heads_in(path.read_text("utf-8", "replace"))
        else:
            heads += heads_in(text)
    return heads
