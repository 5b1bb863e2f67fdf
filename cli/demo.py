"""offers demo: the whole product in one command, on real contacts where they can be had."""


def demo() -> None:
    """Train, gate and package a model on real bank contacts; on simulated ones where the file can't be had."""
    from cli.pipeline import run
    from cli.screen import console, download_progress, notice
    from offers import contract as contracts
    from offers import sources
    from offers.errors import SourceError
    from offers.settings import Settings

    known = contracts.load("bank-marketing")
    source = ""
    try:
        with download_progress() as progress:
            sources.fetch(known, Settings.from_env(), progress=progress)
    except SourceError as error:
        source = "simulated"
        console.print(
            notice(
                "SIMULATED DATA",
                f"{error}\nThis demo goes on with a simulated world: its figures say nothing of real customers.",
            )
        )
    run("bank-marketing", source)
