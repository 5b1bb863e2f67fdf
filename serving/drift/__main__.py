"""Starts the drift sidecar: `python -m serving.drift --bundle DIR --state DIR [--sink URL]`."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from offers.background import in_background
from offers.drift.examination import SCORE, Reference, Streak
from offers.errors import DataError, OffersError
from offers.http_client import ClientTls, peer
from offers.retraining.signature import VARIABLE, key_of
from serving.drift import bundle as bundles
from serving.drift import server
from serving.drift.alarms import Sink
from serving.drift.ledger import WatchRecord
from serving.drift.monitor import Monitor
from serving.drift.rows import Rows
from serving.drift.state import Damaged, StateFile
from serving.process.listening import bound
from serving.process.logs import configure_logging, log_event
from serving.process.waiting import WAIT, wait_for_bundle

if TYPE_CHECKING:
    from serving.drift.judge import Judge

WAITING_WINDOWS, WAITING_ROWS = 4, 10_000
"""What may wait at most while a window is judged: so many windows, or rows where that is more."""


def main() -> None:
    """Watch a bundle; a mistake in what was given is one sentence on standard error and exit code 2."""
    arguments = _arguments()
    configure_logging()
    if arguments.wait:
        wait_for_bundle(arguments.bundle, arguments.host, arguments.port)
    try:
        with bound(arguments.host, arguments.port) as listener:
            server.run(_monitor(arguments), listener)
    except OffersError as error:
        print(f"drift: {error}", file=sys.stderr)
        sys.exit(2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m serving.drift", description="Watch the rows that a bundle has scored.")
    parser.add_argument("--bundle", required=True, type=Path, help="directory of the bundle that scores the rows")
    parser.add_argument("--state", required=True, type=Path, help="directory that keeps the watch over a restart")
    parser.add_argument("--sink", default="", help="where alarms are posted as CloudEvents; by default they are logged")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8090, help="0 for a free one")
    parser.add_argument("--sink_timeout", type=float, default=10.0, help="seconds that the sink has for its answer")
    parser.add_argument("--sink_pause", type=float, default=1.0, help="seconds before the second try; doubles")
    parser.add_argument("--wait", action="store_true", help=WAIT)
    parser.add_argument("--sink_authorities", type=Path, help="PEM file of whom to trust as the sink's authority")
    parser.add_argument("--sink_certificate", type=Path, help="PEM file of the chain that the sink is shown")
    parser.add_argument("--sink_key", type=Path, help="PEM file of its private key")
    return parser.parse_args()


def _monitor(arguments: argparse.Namespace) -> Monitor:
    sink = _sink(arguments) if arguments.sink else None
    watched = in_background(lambda: bundles.load(arguments.bundle))
    state = StateFile(arguments.state, _schema(watched.reference))
    rows, ledger = _resumed(state, watched)
    # What can't be written now can't be written later either; better to know before the first event.
    state.save(rows.all(), ledger.to_json())
    # Takes many seconds: what was given wrongly has been told by now.
    return Monitor(in_background(lambda: _judge(watched)), rows, ledger, state, sink)


def _judge(watched: bundles.Watched) -> "Judge":
    from serving.drift.judge import Judge

    return Judge(watched)


def _sink(arguments: argparse.Namespace) -> Sink:
    tls = ClientTls(arguments.sink_authorities, arguments.sink_certificate, arguments.sink_key)
    taker = peer("--sink", arguments.sink, arguments.sink_timeout, tls)
    return Sink(taker, arguments.sink_pause, key_of(os.environ.get(VARIABLE, "")))


def _schema(reference: Reference) -> pa.Schema:
    kinds = {column.name: pa.string() if column.kind == "category" else pa.float64() for column in reference.columns}
    return pa.schema(kinds | {SCORE: pa.float64()})


def _resumed(state: StateFile, watched: bundles.Watched) -> tuple[Rows, WatchRecord]:
    """Go on where the last process stopped, or begin afresh and say why."""
    reference = watched.reference
    window = reference.watch.window
    limit = window + max(WAITING_WINDOWS * window, WAITING_ROWS)
    try:
        saved = state.load()
        if saved:
            Streak.from_dict(reference.watch, saved[1].streak)
    except (Damaged, DataError) as error:
        log_event("state is damaged: beginning afresh", logging.ERROR, reason=str(error), kept=str(state.set_aside()))
        saved = None
    if saved is None:
        return Rows(limit), WatchRecord(watched.name, Streak(reference.watch).to_dict())
    rows, ledger = saved
    if ledger.bundle == watched.name:
        log_event("going on", bundle=watched.name, windows=ledger.windows, waiting_rows=len(rows))
        return Rows(limit, [rows]), ledger
    waiting = [alarm for alarm in ledger.alarms if alarm.delivered is None]
    log_event(
        "another bundle: beginning afresh", logging.WARNING,
        bundle=watched.name, before=ledger.bundle, rows_left=len(rows), alarms_kept=len(waiting),
    )  # fmt: skip
    return Rows(limit), WatchRecord(watched.name, Streak(reference.watch).to_dict(), alarms=waiting)


if __name__ == "__main__":
    main()
