"""offers market serve, drift and demo: a market's recommender on this machine, and what becomes of preferences."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.outcomes import TablesOption
from cli.serve import until_told

if TYPE_CHECKING:
    from offers.retrieval.drift import PreferenceWindow
    from serving.local import Log, Running

_TRAINED = Path("build/market")
BundleOption = Annotated[Path, typer.Option(help="The market's bundle, or a directory of bundles: the newest.")]
StoreOption = Annotated[
    str, typer.Option(help="The online store: an SQLite file, redis://HOST:PORT/0 or feast+http://HOST:PORT.")
]
SHIFT_DAY = 200.0
"""The day of the demo's history from which half of the tastes are others."""


def serve(
    bundle: Annotated[
        Path | None,
        typer.Option(help="The market's bundle, or a directory of bundles: the newest. By default the champion's."),
    ] = None,
    store: StoreOption = "build/users.db",
    products: Annotated[Path | None, typer.Option(help="The market's table of products, to follow it.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 for a free one.")] = 8088,
    tables: TablesOption = "",
) -> None:
    """Serve recommendations by users' ids on loopback until Ctrl-C, with events, decision log and shipper.

    Without --bundle the champion of the ledger serves, and promotions take place at once. Where nobody has promoted a
    release of a market yet, the newest bundle of build/market serves.
    """
    from cli.market_follow import follow_market
    from offers.decisions.pseudonym import Pseudonyms
    from offers.governance.access import open_ledger
    from offers.governance.follower import contract_to_follow
    from offers.settings import Settings
    from serving.local import Log, directory_of

    settings = Settings.from_env()
    log = Log(tables or str(settings.home / "tables"), settings.home / "pseudonym.key")
    Pseudonyms.at(log.key)
    market = None if bundle else contract_to_follow(open_ledger(settings), of_market=True)
    if market is not None:
        with until_told():
            follow_market(settings, market, store, products, port, log)
        return
    directory = directory_of(settings.home, of_market=True)
    with until_told(), recommender(_newest(bundle or _TRAINED), store, directory, products, port, log) as running:
        introduce(running)
        running.process.wait()


def introduce(running: "Running") -> None:
    """Print where the recommender answers."""
    typer.echo(f"{running.url}/recommend/42?k=10")
    typer.echo(f"{running.url}/docs")


def drift(
    directory: Annotated[Path, typer.Argument(help="Where the market's tables are.")],
    bundle: BundleOption = _TRAINED,
    days: Annotated[float, typer.Option(min=1, help="Length of a window.")] = 30.0,
    trigger: Annotated[
        str,
        typer.Option(help="URL of `offers retrain listen`, which trains anew where the newest window is marked."),
    ] = "",
) -> None:
    """Show window by window whether users still look at what the bundle expects; preferences that change show here."""
    from cli.screen import console, plain_table
    from offers.retrieval.bundle import MarketBundle
    from offers.retrieval.drift import K, preference_windows
    from offers.retrieval.views import read_views

    loaded = MarketBundle.load(_newest(bundle))
    table = plain_table("window from", "views", f"among the {K} expected", "z", "")
    with read_views(loaded.market, directory) as (views, _):
        for window in preference_windows(loaded, views, days):
            z, mark = "" if window.z is None else f"{window.z:.1f}", "drift" if window.alarm else ""
            table.add_row(str(window.start)[:10], str(window.views), f"{window.hits:.3f}", z, mark)
    console.print(table)
    if trigger and window.alarm:
        console.print(ask_for_training(trigger, loaded.name, window))


def ask_for_training(trigger: str, bundle: str, window: "PreferenceWindow") -> str:
    """Send the alarm of a window; returns what was decided. Sent again, it starts nothing more."""
    import os
    from datetime import UTC, datetime

    from offers.retraining import alarm
    from offers.retraining.signature import VARIABLE, key_of

    since = str(window.start)[:10]
    reason = f"preferences: {window.hits:.3f} of the views since {since} are of expected products, z {window.z:.1f}"
    evidence = {"bundle": bundle, "action": "retrain", "reasons": [reason]}
    key = key_of(os.environ.get(VARIABLE, ""))
    decision = alarm.send(trigger, "/offers/market", f"{bundle}-{since}", datetime.now(UTC), evidence, key)
    return f"started {decision['run']}" if decision["started"] else f"no run: {decision['reason']}"


def demo(
    users: Annotated[int, typer.Option(min=100, help="Size of the market.")] = 20_000,
    market: Annotated[
        str, typer.Option("--market", "-m", help="Name of a shipped market, or a YAML file.")
    ] = "fintech",
    directory: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("build/market-demo"),
) -> None:
    """Simulate a market, train, load its users, recommend, take a click, and see preferences change."""
    import shutil

    from cli import market as commands
    from cli.screen import console

    def headline(text: str) -> None:
        console.print(f"\n{text}", style="bold")

    shutil.rmtree(directory, ignore_errors=True)
    tables, shifted, bundles = directory / "tables", directory / "shifted", directory / "bundles"
    headline("A market whose true preferences are known")
    commands.simulate(tables, market, users=users)
    headline("What was known at each click")
    commands.features(tables, directory / "clicks.parquet", market, event="click")
    headline("Models, judged by later views")
    commands.train(tables, market, bundles, report=directory / "report.html", truth=0)
    headline("Users go online")
    commands.load(tables, str(directory / "users.db"), market)
    headline("Recommendations by id")
    service = recommender(_newest(bundles), str(directory / "users.db"), directory / "serve", tables / "products.csv")
    with service as running:
        _click(running)
    headline("Half of the tastes change")
    commands.simulate(shifted, market, users=max(100, users // 5), shift_on=SHIFT_DAY)
    drift(shifted, bundles)
    console.print(f"offers market serve --bundle {bundles} --store {directory / 'users.db'} serves it on")


@contextmanager
def recommender(
    bundle: Path,
    store: str,
    directory: Path,
    products: Path | None = None,
    port: int = 0,
    log: "Log | None" = None,
) -> "Iterator[Running]":
    """Start a recommender; its log, its events and its decisions go below `directory`.

    Parameters
    ----------
    log : where a shipper takes the decisions; without it they stay in the spool

    Raises
    ------
    ServiceError
        it can't be started: says why, in its own words
    """
    from offers.decisions.pseudonym import Pseudonyms
    from serving.local import Log, check_free, locked, shipper, started
    from serving.market_supervisor import recommender_arguments

    directory.mkdir(parents=True, exist_ok=True)
    kept = log or Log("", directory / "pseudonym.key")
    Pseudonyms.at(kept.key)
    arguments = ("--bundle", bundle, "--http_port", port, *recommender_arguments(directory, store, products, kept))
    check_free(port)
    with locked(directory) as lock, ExitStack() as stack:
        if log:
            stack.enter_context(shipper(directory, lock, log))()
        yield stack.enter_context(started("recommender", directory, lock, *arguments))()


def _click(running: "Running") -> None:
    """Ask for user 42, click the third product, and ask until the answer has seen it."""
    import time

    import httpx

    before = _shown(httpx.get(f"{running.url}/recommend/42?k=10&explain=true", timeout=30).json())
    product = list(before)[2]
    event = {"event_id": "demo-1", "user_id": "42", "product_id": product, "event": "click", "position": 3}
    begin = time.monotonic()
    httpx.post(f"{running.url}/v1/events", json={"events": [event]}, timeout=30).raise_for_status()
    after = before
    while after == before and time.monotonic() - begin < 10:
        answer = httpx.get(f"{running.url}/recommend/42?k=10", timeout=30).json()
        after = {offer["offer_id"]: offer["propensity"] for offer in answer["offers"]}
    seconds = time.monotonic() - begin
    typer.echo(f"user 42 clicked {product}; an answer {seconds:.2f} s later has seen it:")
    _shown(answer, before)


def _shown(answer: dict[str, Any], before: dict[str, float] | None = None) -> dict[str, float]:
    """Print an answer, and return the propensities of its offers."""
    from cli.screen import console, plain_table

    table = plain_table("rank", "product", "value", "propensity", "before" if before else "why")
    for offer in answer["offers"]:
        former = (before or {}).get(offer["offer_id"])
        last = ", ".join(offer["reasons"][:2]) if before is None else "" if former is None else f"{former:.4f}"
        numbers = f"{offer['value']:.2f}", f"{offer['propensity']:.4f}"
        table.add_row(str(offer["rank"]), offer["offer_id"], *numbers, last)
    console.print(table)
    return {offer["offer_id"]: offer["propensity"] for offer in answer["offers"]}


def _newest(path: Path) -> Path:
    """Find the bundle that a path is, or the newest in a directory of bundles."""
    from offers.errors import BundleError

    if (path / "manifest.json").exists():
        return path
    bundles = [one.parent for one in path.glob("*/manifest.json")]
    if not bundles:
        raise BundleError(
            f"{path}: expected a market's bundle, or a directory of them; 'offers market train' makes one"
        )
    return max(bundles, key=lambda one: one.stat().st_mtime)
