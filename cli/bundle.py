"""offers bundle: look at a model bundle, sign it, verify it."""

from pathlib import Path
from typing import Annotated

import typer

from offers.wording import counted

app = typer.Typer(no_args_is_help=True, help="Look at model bundles, sign and verify them.")

BundleArgument = Annotated[str, typer.Argument(help="A bundle's path, its name in the local store, or its s3:// URI.")]


@app.command()
def show(bundle: BundleArgument) -> None:
    """Show where a model comes from, how it did, and who made it."""
    from cli.screen import console, facts_table
    from offers.bundle import bundle as bundles
    from offers.bundle.location import open_bundle
    from offers.settings import Settings

    console.print(facts_table(bundles.show(open_bundle(bundle, Settings.from_env()))))


@app.command()
def sign(
    where: BundleArgument,
    key: Annotated[Path, typer.Option(help="A private key of P-256, P-384 or P-521 in PEM, without a password.")],
) -> None:
    """Sign a bundle: NAME.sig beside it, in the form that OpenSSF's model_signing verifies."""
    from offers.bundle import signature
    from offers.bundle.location import bundle_path, open_bundle
    from offers.settings import Settings

    settings = Settings.from_env().model_copy(update={"signers": ()})
    open_bundle(where, settings)
    path = signature.sign(bundle_path(where, settings), key)
    typer.echo(str(path))


@app.command()
def verify(
    where: BundleArgument,
    signed_by: Annotated[
        list[Path],
        typer.Option(help="A public key in PEM, one of which has to have signed it; OFFERS_SIGNERS by default."),
    ] = [],  # noqa: B006
) -> None:
    """Check every hash, the signature where a key is named, and reproduce the golden rows."""
    from offers.bundle import signature
    from offers.bundle.location import open_bundle
    from offers.settings import Settings

    settings = Settings.from_env()
    settings = settings.model_copy(update={"signers": tuple(signed_by) or settings.signers})
    bundle = open_bundle(where, settings)
    files = counted(len(bundle.manifest.files), "file")
    typer.echo(f"{bundle.name}: {files} and the golden rows are as they were made")
    if settings.signers:
        typer.echo(f"signed by {signature.check(bundle.path, settings.signers)}")
