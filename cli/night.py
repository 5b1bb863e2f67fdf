"""offers night: a bank's night in one command: every customer is scored, and a week's campaign is allocated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offers.contract.contract import Contract

CONTRACT = "bank-marketing"
BLOCK = 50_000
WEEK = """\
name: week
per_customer: 1
capacity:
  - {{name: call-to-a-mobile, where: {{contact: cellular}}, contacts: {mobile}}}
  - {{name: call-to-a-fixed-line, where: {{contact: telephone}}, contacts: {fixed}}}
"""
"""A week's campaign: calls to the mobile for 6 % of the customers, to the fixed line for 3 %."""


def night(
    customers: Annotated[int, typer.Option(min=100, max=100_000_000, help="Simulated customers.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the customers.")] = 0,
) -> None:
    """Score simulated customers with the newest bundle, and plan a week's calls: value, bound, and prices.

    Where there is no bundle yet, one is trained first.
    """
    from cli.campaign import campaign
    from cli.pipeline import fresh
    from cli.score import score
    from cli.screen import console
    from offers.contract import contract as contracts
    from offers.settings import Settings

    settings = Settings.from_env()
    bundle = newest_bundle(settings.home / "bundles")
    directory = fresh(settings.home.resolve(), "night")
    console.print(f"\n{customers} customers of a simulated world", style="bold")
    _simulate(contracts.load(CONTRACT), customers, seed, directory / "customers.parquet")
    score(str(directory / "customers.parquet"), str(directory / "scored"), str(bundle), CONTRACT, pairs=True)
    week = directory / "week.yaml"
    week.write_text(WEEK.format(mobile=customers * 6 // 100, fixed=customers * 3 // 100), "utf-8")
    console.print(f"\nA week's calls, within the limits of {week}", style="bold")
    campaign(str(directory / "scored"), str(week), directory / "plan.parquet", CONTRACT, page=directory / "plan.html")


def newest_bundle(store: Path) -> Path:
    """Find the newest bundle of the contract, or train one if there is none."""
    from cli.demo import _source
    from cli.pipeline import run
    from offers.contract import contract as contracts
    from offers.settings import Settings

    bundles = sorted(store.glob(f"{CONTRACT}-*/manifest.json"), key=lambda path: path.stat().st_mtime)
    if bundles:
        return bundles[-1].parent
    return Path(run(CONTRACT, _source(contracts.load(CONTRACT), Settings.from_env())))


def _simulate(contract: "Contract", customers: int, seed: int, path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    from offers.files import os_errors
    from offers.simulation.world import World

    world, writer = World(contract, 0), None
    with os_errors(path):
        for first in range(0, customers, BLOCK):
            count = min(BLOCK, customers - first)
            frame = world.sample(count, seed=seed + first).frame.assign(customer_id=np.arange(first, first + count))
            rows = pa.Table.from_pandas(frame, preserve_index=False)
            writer = writer or parquet.ParquetWriter(path, rows.schema)
            writer.write_table(rows)
        assert writer is not None
        writer.close()
