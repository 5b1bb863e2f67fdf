"""Starts the recommender: `python -m serving.recommender --bundle DIR --store FILE_OR_URL`."""

import argparse
import asyncio
import contextlib
import gc
import json
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop

from offers.data.feast_online import users_at
from offers.data.online import OnlineUsers
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import ServiceError
from offers.retrieval.bundle import MarketBundle, open_bundle
from offers.settings import Settings
from serving.process import server
from serving.process.listening import HttpServer, bound
from serving.process.telemetry import VERSION
from serving.ranker.decision_log import DecisionLog
from serving.ranker.log_arguments import add_arguments, decision_log, writer
from serving.ranker.routing import Routing
from serving.ranker.routing_source import RoutingSource, open_routing
from serving.recommender.events import EventsTaker
from serving.recommender.products import ProductList
from serving.recommender.rest import Service
from serving.recommender.served import Served
from serving.recommender.service import Recommendations
from serving.recommender.switching import MarketSwitchboard, opened
from serving.recommender.updater import Updater
from serving.recommender.users import DEADLINE, Users

_SEAL_SECONDS = 60.0


def main() -> None:
    """Serve a market; a mistake in what was given is one sentence on standard error and exit code 2."""
    parser = server.parser("recommender", "Recommend the products of a market to its users, by their ids.")
    parser.add_argument("--bundle", default="", help="directory or s3:// URI of the market's bundle")
    parser.add_argument(
        "--routing",
        default="",
        help="routing that names a release, and is followed: a file, or s3://bucket/routing/NAME.json, which need not "
        "be there yet where a bundle is given",
    )
    parser.add_argument("--release_home", type=Path, help="directory for copies of the releases that a store has")
    parser.add_argument(
        "--store",
        required=True,
        help="the online store: an SQLite file, redis://HOST:PORT/0, or feast+http://HOST:PORT",
    )
    parser.add_argument("--products", type=Path, help="the market's table of products; what it lacks is not shown")
    parser.add_argument("--events", type=Path, help="directory that keeps events, with users' ids, for --events_hours")
    parser.add_argument(
        "--events_hours", type=server.whole(1, 168), default=24, help="how long; a load must not be older than that"
    )
    parser.add_argument("--no_fallback", action="store_true", help="refuse with 503 while the online store is away")
    add_arguments(parser)
    arguments = parser.parse_args()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with server.starting("recommender"), bound(arguments.host, arguments.http_port) as listener, runner:
        runner.run(_serve(arguments, listener))


async def _serve(arguments: argparse.Namespace, listener: socket.socket) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    door = server.door(arguments)
    if door.callers:
        await door.callers.keys.look()
    source, serving, bundle = _beginning(arguments)
    online, log = users_at(bundle.market, arguments.store), decision_log(arguments)
    _check_store(online, arguments.store)
    users = Users(online, lambda: online.open(arguments.store, DEADLINE))
    served = Served(ProductList(bundle, arguments.products), log)
    recommendations = Recommendations(served, users, log, not arguments.no_fallback)
    async with contextlib.AsyncExitStack() as beside:
        beside.callback(users.close)
        if log:
            await beside.enter_async_context(log.spool)
        events = None
        if arguments.events:
            spool = Spool(
                arguments.events, writer(), SpoolLimits(seal_seconds=_SEAL_SECONDS, durability=arguments.durability)
            )
            await beside.enter_async_context(spool)
            keep = 3600.0 * arguments.events_hours
            updater = Updater(online, lambda: online.open(arguments.store, _UPDATE_SECONDS), arguments.events, keep)
            events = EventsTaker(bundle.market, recommendations.has, spool, beside.enter_context(updater), log)
        service = Service(recommendations, events)
        edge = service.application()
        edge.admit = door.callers.admit if door.callers else None
        VERSION.labels(bundle.market.name, bundle.name).set(1)
        if source is not None:
            board = MarketSwitchboard(source, recommendations, arguments.products, serving, _noting(log))
            await beside.enter_async_context(board.looking())
        http = HttpServer(edge, tls=door.tls)
        http.start(listener)
        host, port = listener.getsockname()[:2]
        print(json.dumps({"host": host, "http_port": port, "bundle": bundle.name}), flush=True)
        gc.collect()
        gc.freeze()
        await stop.wait()
        service.draining = True
        service.bodies.hurry()
        await http.stop()


def _beginning(arguments: argparse.Namespace) -> tuple[RoutingSource | None, Routing | None, MarketBundle]:
    """Find the routing, what it says now, and the bundle to begin with."""
    settings = Settings.from_env()
    if not arguments.routing:
        if not arguments.bundle:
            raise ServiceError("expected --bundle or --routing")
        return None, None, open_bundle(arguments.bundle, settings)
    home = arguments.release_home or Path(tempfile.gettempdir(), "offers")
    source = open_routing(arguments.routing, settings, home)
    if arguments.bundle:
        # The routing of a cluster may not be there yet, or not answer: the first looks take it up.
        return source, None, open_bundle(arguments.bundle, settings)
    if (serving := source.read()) is None:
        raise ServiceError(f"{source.where}: there is no such object; the first promotion of a release writes it")
    bundle = opened(source.local(serving).arms[0])
    # Experiments begin at the first look.
    return source, serving.model_copy(update={"experiments": ()}), bundle


def _noting(log: DecisionLog | None) -> Callable[[str], None]:
    def note_head(head: str) -> None:
        if log:
            log.ledger_head = head or None

    return note_head


_UPDATE_SECONDS = 1.0
"""What the store may take for events; nobody waits for it."""


def _check_store(users: OnlineUsers, where: str) -> None:
    """Refuse a store that is not there when the service starts; what goes away later comes back."""
    with contextlib.closing(users.open(where, _UPDATE_SECONDS)) as store:
        store.generation()


if __name__ == "__main__":
    main()
