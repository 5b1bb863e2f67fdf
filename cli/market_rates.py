"""offers market rates: clicks and conversion by product and by place."""

from pathlib import Path
from typing import Annotated

import typer


def rates(
    directory: Annotated[Path, typer.Argument(help="Where the market's tables are.")],
    market: Annotated[
        str, typer.Option("--market", "-m", help="Name of a shipped market, or a YAML file.")
    ] = "fintech",
    most: Annotated[int, typer.Option(min=1, help="Rows of each table: most viewed products, first places.")] = 20,
) -> None:
    """Show how many views lead to each later event, by product and by place: click-through rate and conversion."""
    from cli.screen import console, plain_table
    from offers.contract import market as markets
    from offers.data.market_rates import rates_of

    content = markets.load(market)
    first, *later = (event.name for event in content.events)
    products, places = rates_of(content, directory)
    for head, found in (("product", products[:most]), ("place", places[:most])):
        table = plain_table(head, f"{first}s", *later)
        for one in found:
            table.add_row(one.name, str(one.views), *(f"{one.rates[event]:.2%}" for event in later))
        console.print(table)
