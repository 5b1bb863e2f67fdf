"""The training pipeline of a market on this machine, and its arguments here and on a cluster."""

import re
from pathlib import Path
from typing import Any

MARKET = "market-training"


def run_graph(market: str, source: str, bundles: Path, seed: int) -> Path:
    """Run the graph that a cluster is given, a process for each step; returns the bundle's path."""
    import typer

    from cli.pipeline import fresh, page
    from cli.run_display import RunDisplay
    from cli.screen import console
    from offers.contract import market as markets
    from offers.errors import DataError
    from offers.settings import Settings
    from offers.steps.market import SIMULATED
    from pipelines import local
    from pipelines.compilation import compile_pipeline

    place = source if source.startswith(SIMULATED) else str(Path(source).resolve())
    arguments = market_arguments(market, place, on_cluster=False)
    arguments |= {"publish": str(bundles.resolve()), "seed": seed}
    directory = fresh(Settings.from_env().home.resolve() / "runs", markets.load(market).name)
    with RunDisplay() as display:
        outcome = local.run(compile_pipeline(MARKET, directory / "pipeline.yaml"), arguments, directory, display.update)
    if outcome.mistake:
        raise DataError(outcome.mistake)
    if not outcome.succeeded or outcome.bundle is None:
        console.print(f"The run failed, and the fault is ours. Its log: {outcome.log}", style="red")
        raise typer.Exit(1)
    console.print(f"report  {page(outcome, 'gate', 'report')}", soft_wrap=True)
    return bundles / outcome.bundle.name


def is_market(contract: str) -> bool:
    """Whether a name or a YAML file is that of a market, and not that of a contract."""
    from offers.contract import market as markets

    if contract in markets.shipped():
        return True
    if not (path := Path(contract)).is_file():
        return False
    # Only a market has this section. What else is wrong with the file its reader says.
    return bool(re.search(r"^interactions\s*:", path.read_text("utf-8", "replace"), re.MULTILINE))


def subject_of(contract: str) -> str:
    """The name of a contract, or of a market."""
    from offers.contract import contract as contracts
    from offers.contract import market as markets

    return markets.load(contract).name if is_market(contract) else contracts.load(contract).name


def market_arguments(market: str, source: str, on_cluster: bool = True) -> dict[str, Any]:
    """Build arguments of the pipeline that are valid in another process or on another machine.

    Raises
    ------
    StorageError
        pods can't reach the source
    """
    from offers.contract import market as markets
    from offers.errors import StorageError
    from offers.steps.market import SIMULATED

    if on_cluster and not source.startswith(("s3://", SIMULATED)):
        raise StorageError(f"--source {source!r}: expected the s3:// URI of the market's tables, or {SIMULATED}")
    return {"market": market if market in markets.shipped() else markets.text(market), "source": source}
