"""The scoring pipeline's steps: plan the shards, score each in a process of its own, and summarise the table.

This module is also the program of that process: `python -m offers.steps.scoring ORDER RESULT`.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from offers import files
from offers.settings import Settings
from offers.steps import champion
from offers.wording import Say

if TYPE_CHECKING:
    from offers.batch.order import Order
    from offers.batch.volumes import Volumes

SUMMARY = "summary.json"
TRIES = 3
"""So often a shard's process is started, where it is killed. Kubeflow tries no step in a loop again."""
MOST_SHARDS = 1_000


def arguments(order: "Order", shards: int) -> dict[str, object]:
    """Build the scoring pipeline's arguments, which are valid in any process of this machine."""
    ready = anywhere(order)
    return {
        "bundle": ready.bundle,
        "customers": ready.customers,
        "output": ready.output,
        "catalogue": ready.catalogue,
        "shards": shards,
        "options": order.options.model_dump_json(exclude_defaults=True),
    }


def anywhere(order: "Order") -> "Order":
    """Make an order valid in any process of this machine; raises `SourceError` where it holds a password."""
    from offers.contract import secret
    from offers.policy import catalogue

    secret.refuse_literal(order.customers, "customers")
    is_path = order.catalogue and order.catalogue not in catalogue.shipped()
    places = {
        "bundle": _anywhere(order.bundle),
        "customers": _anywhere(order.customers),
        "output": order.output if "://" in order.output else str(Path(order.output).absolute()),
        "catalogue": catalogue.text(order.catalogue) if is_path else order.catalogue,
    }
    return order.model_copy(update=places)


def _anywhere(place: str) -> str:
    return str(Path(place).absolute()) if Path(place).exists() else place


def plan(
    places: tuple[str, str, str, str], shards: int, options: str, settings: Settings, say: Say = print
) -> list[str]:
    """Check an order before the shards begin, and write one order for each.

    Parameters
    ----------
    places : of bundle, customers, output and catalogue, as `offers score` takes them; champion:CONTRACT is the release
        that serves now, and {date} in the output stands for today in UTC, so that a schedule makes a table a day
    options : YAML text; see `offers.batch.order.Options`

    Raises
    ------
    OffersError
        a place is not there, an option is unknown, or the customers lack a column
    """
    from offers.batch.order import ROWS, Options, Order, work_of
    from offers.contract import secret
    from offers.errors import DataError

    if not 1 <= shards <= MOST_SHARDS:
        raise DataError(f"shards: expected 1 to {MOST_SHARDS}, got {shards}")
    bundle, customers, output, catalogue = places
    secret.refuse_literal(customers, "customers")
    order = Order(
        bundle=bundle,
        customers=customers,
        output=output.replace("{date}", f"{datetime.now(UTC):%Y-%m-%d}"),
        catalogue=catalogue,
        options=Options.of(options),
        shards=shards,
    )
    order = champion.settled(order, settings)
    source = work_of(champion.fetched(order, settings), settings).source
    # All shards have to read the same rows, and small tables are cut so that each shard has some.
    rows = order.options.rows or max(1, min(ROWS, -(-(source.total or ROWS * shards) // shards)))
    fixed = order.options.model_copy(update={"version": source.version, "rows": rows})
    total = "customers" if source.total is None else f"{source.total} customers"
    say(f"{total} in parts of {rows}, {shards} shards")
    numbers = range(1, shards + 1)
    return [order.model_copy(update={"options": fixed, "shard": n}).model_dump_json() for n in numbers]


def score_shard(order: str, say: Say = print) -> int:
    """Score a shard in a process of its own; where that is killed, another goes on after the parts that are there.

    Parameters
    ----------
    order : one of those that `plan` wrote

    Returns
    -------
    int
        the number of the shard's customers

    Raises
    ------
    StorageError
        the process was killed each time
    """
    from offers.errors import StorageError

    killer = ""
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "customers"
        for _ in range(TRIES):
            command = [sys.executable, "-m", "offers.steps.scoring", order, str(result)]
            # Arrow's own pools keep memory that a run has given back.
            frugal = {"ARROW_DEFAULT_MEMORY_POOL": "system"} | os.environ
            done = subprocess.run(command, env=frugal, check=False)
            if done.returncode == 0:
                return int(result.read_text("utf-8"))
            if done.returncode > 0:
                # It has said why.
                sys.exit(done.returncode)
            killer = signal.Signals(-done.returncode).name
            say(f"the shard's process was killed by {killer}")
    raise StorageError(f"a shard's process was killed {TRIES} times, the last time by {killer}; give it more memory")


def summarise(
    orders: Sequence[str], customers: Sequence[int], summary: Path, page: Path, settings: Settings, say: Say = print
) -> "Volumes":
    """Count the scored table, compare it with the bundle's reference, and write the report.

    Parameters
    ----------
    orders : those that `plan` wrote
    customers : the number of each shard's customers
    """
    from offers.batch.order import Order, work_of
    from offers.batch.volumes import volumes
    from offers.reports.scoring import scoring_page

    done = work_of(champion.fetched(Order.model_validate_json(orders[0]), settings), settings)
    result = volumes(done, sum(int(number) for number in customers), settings)
    files.save(summary, SUMMARY, result)
    page.write_text(scoring_page(result, done.title), "utf-8")
    distance = "no reference" if result.psi is None else f"PSI {result.psi:.3f} to the bundle's reference"
    say(f"{result.customers} customers, {result.answered} of them with an offer; {distance}")
    return result


def _score(order: str, result: Path, settings: Settings, say: Say) -> None:
    from offers.batch.order import Order, work_of

    work = work_of(champion.fetched(Order.model_validate_json(order), settings), settings)
    shard = f"shard {work.order.shard} of {work.order.shards}"
    outcome = work.run(settings, lambda rows: say(f"{shard}: {rows} customers"))
    result.write_text(str(outcome.customers), "utf-8")
    say(f"{shard}: {outcome.customers} customers ({outcome.earlier} of them by an earlier run), {outcome.parts} parts")


if __name__ == "__main__":
    from offers.steps.execution import execute
    from offers.steps.execution import say as step_say

    execute(_score, sys.argv[1], Path(sys.argv[2]), Settings.from_env(), step_say)
