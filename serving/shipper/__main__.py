"""The shipper: takes what the ranker has spooled to the tables of the decision log, until it is stopped."""

import argparse
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, start_http_server

from offers.decisions.segment import adopt, occupied, sealed
from offers.decisions.shipping import ship
from offers.errors import OffersError, ServiceError
from offers.files import os_errors
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.process.logs import configure_logging, log

ROWS = Counter("offers_shipped_rows", "Rows that were appended to a table of the decision log.", ["table"])
FAILURES = Counter("offers_shipping_failures", "Segments that a table did not take; they are tried again.")
TORN = Counter("offers_spool_torn_bytes", "Bytes of unfinished lines of killed writers, which were cut off.")
WAITING = Gauge("offers_spool_waiting_segments", "Sealed segments that wait to be shipped.")
LONGEST_PAUSE = 30.0


class Shipper:
    """Ships a spool until it is told to stop, and then what is left.

    Parameters
    ----------
    spool : directory of the ranker's segments
    tables : where rows go
    seconds : between two looks at the spool
    grace : seconds, when told to stop, in which the ranker may still seal its last segment
    """

    def __init__(self, spool: Path, tables: DeltaTables, seconds: float, grace: float) -> None:
        self.spool, self.tables, self.seconds, self.grace = spool, tables, seconds, grace
        self.stop = threading.Event()
        self._refusals = 0

    def run(self) -> None:
        """Ship until `stop` is set, then until nothing is left or the time is up."""
        while not self.stop.is_set():
            self.round()
            self.stop.wait(min(self.seconds * 2**self._refusals, LONGEST_PAUSE))
        deadline = time.monotonic() + self.grace
        while (self.round() or occupied(self.spool)) and time.monotonic() < deadline:
            time.sleep(min(self.seconds, 0.2))

    def round(self) -> int:
        """Ship what is sealed, and what writers that have ended left behind; returns how many segments remain."""
        TORN.inc(adopt(self.spool))
        refusals = 0
        for shipped in ship(self.spool, self.tables):
            if shipped.refusal:
                refusals += 1
                FAILURES.inc()
                fields = {"segment": shipped.segment.path.name, "reason": shipped.refusal}
                log.warning("segment not shipped", extra={"fields": fields})
            for table, count in shipped.rows.items():
                ROWS.labels(table).inc(count)
        self._refusals = min(self._refusals + 1, 10) if refusals else 0
        remaining = len(sealed(self.spool))
        WAITING.set(remaining)
        return remaining


def main() -> None:
    """Ship until SIGTERM or SIGINT; a mistake in what was given is one sentence and exit code 2."""
    parser = argparse.ArgumentParser("python -m serving.shipper", description=__doc__)
    parser.add_argument("--spool", type=Path, required=True, help="directory that the ranker spools to")
    parser.add_argument("--tables", required=True, help="directory, or s3:// prefix, of the tables")
    parser.add_argument("--seconds", type=float, default=1.0, help="between two looks at the spool")
    parser.add_argument("--grace", type=float, default=40.0, help="seconds to wait for the ranker at the end")
    parser.add_argument("--host", default="127.0.0.1", help="address of the metrics")
    parser.add_argument("--http_port", type=int, default=0, help="port of the metrics; 0 for a free one")
    arguments = parser.parse_args()
    configure_logging()
    # Who answers customers comes first.
    os.nice(10)
    try:
        shipper = Shipper(
            arguments.spool, DeltaTables.at(arguments.tables, Settings.from_env()), arguments.seconds, arguments.grace
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: shipper.stop.set())
        with _alone(arguments.spool):
            server, _ = _metrics(arguments.http_port, arguments.host)
            print(json.dumps({"http_port": server.server_port, "tables": arguments.tables}), flush=True)
            shipper.run()
            server.shutdown()
    except OffersError as error:
        print(f"shipper: {error}", file=sys.stderr)
        sys.exit(2)


def _metrics(port: int, host: str) -> tuple[WSGIServer, threading.Thread]:
    try:
        return start_http_server(port, host)
    except OSError as error:
        raise ServiceError(f"can't listen on port {port} of {host}: {error.strerror}; name another port") from None


@contextmanager
def _alone(spool: Path) -> Iterator[None]:
    """Be the only shipper of a spool."""
    with os_errors(spool):
        spool.mkdir(parents=True, exist_ok=True)
        lock = os.open(spool / "shipper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ServiceError(f"{spool}: another shipper works here; stop it first") from None
    try:
        yield
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()
