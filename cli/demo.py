"""offers demo: the whole product in one command, on real contacts where they can be had."""


def demo() -> None:
    """Train a model on real bank contacts, simulated ones where the file can't be had, and rank offers by it."""
    from pathlib import Path

    from cli.pipeline import run
    from cli.screen import console, download_progress, notice
    from cli.serve import ask, show
    from offers import contract as contracts
    from offers import sources
    from offers.errors import SourceError
    from offers.settings import Settings
    from serving.local import services
    from serving.question import example

    known, settings, source = contracts.load("bank-marketing"), Settings.from_env(), ""
    try:
        with download_progress() as progress:
            sources.fetch(known, settings, progress=progress)
    except SourceError as error:
        source = "simulated"
        said = "This demo goes on with a simulated world: its figures say nothing of real customers."
        console.print(notice("SIMULATED DATA", f"{error}\n{said}"))
    bundle = run(known.name, source)
    console.print("\n[bold]predictor and ranker answer a request on loopback[/bold]")
    with services(Path(bundle), known.name, settings.home / "serve") as running:
        for prediction in ask(running.ranker.url, example(known))["predictions"]:
            show(prediction, console)
    console.print("\n'make serve' keeps them up")
