"""offers market: check the contract of a market, simulate one, join its features, and put users online."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.market_graph import run_graph

if TYPE_CHECKING:
    import numpy as np

app = typer.Typer(no_args_is_help=True, help="Check, simulate and join a market; put its users online.")

MarketOption = Annotated[str, typer.Option("--market", "-m", help="Name of a shipped market, or a YAML file.")]


@app.command()
def check(market: Annotated[str, typer.Argument(help="Name of a shipped market, or a YAML file.")]) -> None:
    """Read the contract of a market, and say what it holds."""
    from offers.contract import market as markets

    content = markets.load(market)
    events = ", ".join(event.name for event in content.events)
    typer.echo(
        f"{content.name} {content.digest[:12]}: {len(content.user_columns)} columns of users,"
        f" {len(content.product_columns)} of products, {len(content.pairs)} of pairs; events {events}"
    )


@app.command()
def schema(
    output: Annotated[Path, typer.Argument(help="The JSON file to write.")] = Path("market.schema.json"),
) -> None:
    """Write the JSON Schema by which an editor completes and checks contracts of markets."""
    from offers.contract.market import Market
    from offers.contract.market_words import MARKET
    from offers.contract.reference import json_schema
    from offers.contract.words import CONTRACT
    from offers.files import new_text

    new_text(output, json_schema(Market, "A market of Offers", CONTRACT | MARKET))
    typer.echo(f"{output}: let the first line of a market be # yaml-language-server: $schema={output}")


@app.command()
def simulate(
    directory: Annotated[Path, typer.Argument(help="Where the tables go.")],
    market: MarketOption = "fintech",
    users: Annotated[int | None, typer.Option(min=1, help="By default the contract's number.")] = None,
    products: Annotated[
        int | None, typer.Option(min=2, max=1_000_000, help="By default the contract's number.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the market.")] = 0,
    shift_on: Annotated[float | None, typer.Option(help="The day from which half of the tastes are others.")] = None,
) -> None:
    """Write users, products and interactions of a simulated market, whose true preferences are known."""
    from offers.contract import market as markets
    from offers.data.market import write_simulated
    from offers.simulation.market import SimulatedMarket
    from offers.simulation.shifts import TasteShift

    content = markets.load(market)
    sizes = {name: size for name, size in (("users", users), ("products", products)) if size is not None}
    content = content.model_copy(update={"simulation": content.simulation.model_copy(update=sizes)})
    shifts = () if shift_on is None else (TasteShift(shift_on, share=0.5),)
    people, interactions = write_simulated(SimulatedMarket(content, seed, shifts), directory)
    typer.echo(f"{people} users, {content.simulation.products} products, {interactions} interactions: {directory}")


@app.command()
def features(
    directory: Annotated[Path, typer.Argument(help="Where the market's tables are.")],
    output: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
    market: MarketOption = "fintech",
    event: Annotated[str, typer.Option(help="The interactions that get a row; by default the first event.")] = "",
) -> None:
    """Write interactions with all that was known at their moment: columns, pairs, and features of earlier events."""
    from offers.contract import market as markets
    from offers.data.point_in_time import write_features

    content = markets.load(market)
    summary = write_features(content, directory, event or content.events[0].name, output)
    typer.echo(f"{summary.rows} rows: {output}")
    for name, count in summary.stale.items():
        typer.echo(f"{name}: beyond the time to live in {count} rows")


@app.command()
def load(
    directory: Annotated[Path, typer.Argument(help="Where the market's tables are.")],
    store: Annotated[
        str,
        typer.Argument(help="The online store: an SQLite file, made where it is not there, or redis://HOST:PORT/0."),
    ],
    market: MarketOption = "fintech",
    as_of: Annotated[
        str, typer.Option(help="A moment in UTC; the second after the newest interaction by default.")
    ] = "",
) -> None:
    """Put the rows of all users, as of a moment, into the online store."""
    from offers.contract import market as markets
    from offers.data.online import OnlineUsers
    from offers.store.online import open_online_store

    content, moment = markets.load(market), _moment(as_of, "--as-of") if as_of else None
    with closing(open_online_store(store, new=True)) as online:
        count, moment = OnlineUsers(content).load(directory, online, moment)
    # A URL may hold a password.
    typer.echo(f"{count} users as of {moment}: {store.rpartition('@')[2]}")


@app.command()
def train(
    directory: Annotated[Path, typer.Argument(help="Where the market's tables are.")],
    market: MarketOption = "fintech",
    bundles: Annotated[Path, typer.Option(help="Where the bundle goes.")] = Path("build/market"),
    seed: Annotated[int, typer.Option(min=0, help="Of the training.")] = 0,
    report: Annotated[Path | None, typer.Option(help="The HTML page to write.")] = None,
    truth: Annotated[int | None, typer.Option(min=0, help="Seed of the simulated market, to show the oracle.")] = None,
    graph: Annotated[
        bool,
        typer.Option("--graph", help="Run the pipeline's graph, a process a step; DIRECTORY may be simulated:SEED."),
    ] = False,
) -> None:
    """Train a market's models, judge them by later views, and write them as a bundle."""
    if graph:
        typer.echo(f"bundle  {run_graph(market, str(directory), bundles, seed)}")
        return
    from cli.screen import console, shown
    from offers.contract import market as markets
    from offers.files import new_text
    from offers.reports import market as reports
    from offers.reports import tables
    from offers.retrieval.oracle import simulated_oracle
    from offers.retrieval.training import train

    text = markets.text(market)
    content = markets.parse(text, market)
    oracle = None if truth is None else simulated_oracle(content, directory, truth)
    bundle, evaluation = train(text, directory, bundles, seed, oracle, console.print)
    console.print(shown(reports.method_table(evaluation)))
    console.print(shown(reports.ranker_table(evaluation)))
    if evaluation.margin is not None:
        console.print(shown(reports.margin_table(evaluation.margin)))
    console.print(shown(tables.gate(evaluation.verdict)))
    console.print(reports.headline(evaluation))
    if report is not None:
        new_text(report, reports.market_report(content, evaluation, bundle.name))
        console.print(f"report  {report}")
    console.print(f"bundle  {bundle}")


@app.command()
def user(
    user_id: Annotated[str, typer.Argument(help="The user's id.")],
    store: Annotated[str, typer.Argument(help="The online store.")],
    market: MarketOption = "fintech",
    now: Annotated[str, typer.Option(help="The moment of asking, in UTC; this one by default.")] = "",
) -> None:
    """Show what the models would see of a user now."""
    from datetime import UTC, datetime

    import numpy as np

    from cli.screen import console, facts_table
    from offers.contract import market as markets
    from offers.data.feast_online import users_at

    users = users_at(markets.load(market), store)
    moment = _moment(now or datetime.now(UTC).isoformat(), "--now")
    with closing(users.open(store)) as online:
        rows = users.read(online, [user_id], moment)
    facts = {"row of": "no row" if str(rows.moments[0]) == "NaT" else str(rows.moments[0])}
    facts |= {"other contract": "the row is of another contract: load the store anew"} if rows.foreign else {}
    for feature, value in zip(users.encoder.features, rows.matrix[0], strict=True):
        cell = "missing" if np.isnan(value) else feature.values[int(value)] if feature.values else f"{value:g}"
        facts[feature.name] = cell
    console.print(facts_table(facts))
    for name in (name for name, count in rows.stale.items() if count):
        console.print(f"{name}: beyond the time to live")


def _moment(text: str, option: str) -> "np.datetime64":
    """Parse the moment of an option; a moment with a time zone is converted to UTC."""
    from datetime import UTC, datetime

    import numpy as np

    from offers.errors import SourceError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SourceError(f"{option}: expected a moment such as 2025-12-31T12:00, got {text!r}") from None
    return np.datetime64((moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None), "us")
