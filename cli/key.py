"""offers key: make keys, and say in the ledger who may sign what."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offers.governance.entries import Role
    from offers.governance.keys import Signer
    from offers.governance.ledger import Ledger
    from offers.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make keys, add them to the ledger with their roles, withdraw them.")

KeyOption = Annotated[
    str,
    typer.Option(
        "--key",
        help="Private key that signs: a file, or a name in OFFERS_HOME/keys; OFFERS_KEY or your own by default.",
    ),
]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The owner: a person or a service, such as ann.")],
    directory: Annotated[Path | None, typer.Option(help="Where to; OFFERS_HOME/keys by default.")] = None,
) -> None:
    """Make a private key, and print the public half, which an admin adds to the ledger."""
    from offers.governance.keys import new_key
    from offers.settings import Settings

    path = (directory or Settings.from_env().home / "keys") / f"{name}.pem"
    public = new_key(path).public
    typer.echo(f"private   {path}")
    typer.echo(f"public    {public.text}")
    typer.echo(f"id        {public.id}")


@app.command()
def show(private: Annotated[Path, typer.Argument(help="The file of a private key.")]) -> None:
    """Print the public half of a key, which an admin adds to the ledger."""
    from offers.governance.keys import read_key

    typer.echo(read_key(private).public.text)


@app.command()
def add(
    public: Annotated[str, typer.Argument(help="The public half, as 'offers key new' prints it.")],
    name: Annotated[str, typer.Option(help="Its owner.")],
    role: Annotated[list[str], typer.Option(help="admin, trainer, approver or operator; may be given again.")],
    key: KeyOption = "",
) -> None:
    """Let a key sign in its roles. An admin's key adds it."""
    from offers.governance.entries import KeyAdded
    from offers.governance.keys import public_key

    ledger, signer = to_write(key)
    new_key = public_key(public)
    act = KeyAdded(key=new_key.id, public=new_key.text, name=name, roles=_roles(role))
    entry = ledger.write(signer, lambda state: act)
    assert entry is not None
    typer.echo(f"entry {entry.number}: key {new_key.id} of {name} may sign as {', '.join(act.roles)}")


@app.command()
def withdraw(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, as 'offers key list' prints it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    key: KeyOption = "",
) -> None:
    """Let a key sign no more; what it has signed stays."""
    from offers.errors import LedgerError
    from offers.governance.entries import KeyWithdrawn

    ledger, signer = to_write(key)
    if key_id not in ledger.state().keys:
        raise LedgerError(f"key {key_id!r}: there is no such key; 'offers key list' names them")
    entry = ledger.write(signer, lambda state: KeyWithdrawn(key=key_id, reason=reason))
    assert entry is not None
    typer.echo(f"entry {entry.number}: key {key_id} is withdrawn")


@app.command("list")
def list_() -> None:
    """Print the keys that the ledger knows."""
    from cli.screen import console, plain_table
    from offers.governance.access import open_ledger
    from offers.settings import Settings

    table = plain_table("id", "owner", "roles", "withdrawn")
    for name, key in open_ledger(Settings.from_env()).state().keys.items():
        withdrawn = "" if key.withdrawn is None else f"by entry {key.withdrawn}"
        table.add_row(name, key.added.name, ", ".join(key.added.roles), withdrawn)
    console.print(table)


def to_write(key: str) -> tuple["Ledger", "Signer"]:
    """Open the ledger, and the key that `--key` names."""
    from offers.governance.access import open_to_write
    from offers.settings import Settings

    settings = Settings.from_env()
    return open_to_write(settings, key_file(key, settings))


def key_file(key: str, settings: "Settings") -> Path | None:
    """Find the file that `--key` names; None where it names none.

    Raises
    ------
    LedgerError
        there is no such file
    """
    from offers.errors import LedgerError

    if not key:
        return None
    keys = settings.home / "keys"
    for path in (keys / f"{key}.pem",) * ("/" not in key) + (Path(key),):
        if path.is_file():
            return path
    advice = "'offers key new' makes one"
    raise LedgerError(f"--key {key!r}: expected the file of a private key, or the name of one in {keys}; {advice}")


def _roles(words: list[str]) -> tuple["Role", ...]:
    from typing import cast, get_args

    from offers.errors import LedgerError
    from offers.governance.entries import Role

    roles = get_args(Role)
    for role in words:
        if role not in roles:
            raise LedgerError(f"--role: expected one of {', '.join(roles)}, got {role!r}")
    return tuple(cast("Role", role) for role in dict.fromkeys(words))
