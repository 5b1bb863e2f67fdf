"""How often views lead to each later event, by product and by place in the list."""

from pathlib import Path

import duckdb

from offers.contract.market import Market
from offers.data.market_tables import opened
from offers.data.rates import Rates
from offers.errors import SourceError


def rates_of(market: Market, directory: Path) -> tuple[list[Rates], list[Rates]]:
    """Compute the rates of all products, the most viewed first, and of all places.

    Raises
    ------
    SourceError
        a table is missing, can't be read, or breaks the contract
    """
    with opened(market, directory) as connection:
        products, places = (_rates(market, connection, column) for column in ("_product", "_position"))
    products.sort(key=lambda one: -one.views)
    return products, sorted(places, key=lambda one: int(one.name))


def _rates(market: Market, connection: duckdb.DuckDBPyConnection, column: str) -> list[Rates]:
    first, *later = (event.name for event in market.events)
    query = f"SELECT {column}, _event, count(*) FROM events WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    try:
        cells = connection.execute(query).fetchall()
    except duckdb.Error as error:
        raise SourceError(f"the interactions can't be counted: {str(error).splitlines()[0]}") from None
    counts = dict[str, dict[str, int]]()
    for name, event, number in cells:
        counts.setdefault(str(name), {})[event] = number
    viewed = ((name, events) for name, events in counts.items() if events.get(first))
    return [
        Rates(name=name, views=events[first], rates={event: events.get(event, 0) / events[first] for event in later})
        for name, events in viewed
    ]
