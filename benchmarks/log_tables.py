"""A log of a million decisions, and their join with outcomes, for whose memory `log` starts a process of its own."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from offers.decisions import records
from offers.decisions.tabled import observed
from offers.settings import Settings
from offers.store.delta import DeltaTables

DECISIONS, OUTCOMES, OFFERS, PIECE = 1_000_000, 400_000, 12, 50_000
_BEGUN = datetime(2024, 1, 1, tzinfo=UTC)
_TEXT = "x" * 400


def write(directory: Path, generator: np.random.Generator) -> None:
    """Write the tables as a shipper would, in pieces of many segments."""
    tables = DeltaTables.at(str(directory), Settings())
    for number in range(DECISIONS // PIECE):
        rows = _decisions(number, generator)
        tables.append(records.DECISIONS, rows, "bench", number, ("date",))
    accepted = generator.choice(DECISIONS, OUTCOMES, replace=False)
    moments = _moments(accepted)
    observed_at = pa.array(moments + np.timedelta64(1, "D"), pa.timestamp("us", tz="UTC"))
    columns = {
        "date": observed_at.cast(pa.date32()),
        "observed_at": observed_at,
        "received_at": observed_at,
        "decision_id": pa.array([f"{one:032x}" for one in accepted]),
        "kind": pa.array(np.where(generator.random(OUTCOMES) < 0.3, "accepted", "declined").astype(object)),
        "writer": pa.array(["bench"] * OUTCOMES),
    }
    tables.append(records.OUTCOMES, _filled(columns, records.OUTCOMES, OUTCOMES), "bench", 0, ("date",))


def _decisions(number: int, generator: np.random.Generator) -> pa.Table:
    ids = np.arange(number * PIECE, (number + 1) * PIECE)
    decided_at = pa.array(_moments(ids), pa.timestamp("us", tz="UTC"))
    names = pa.array([f"offer-{place}" for place in range(OFFERS)] * PIECE)
    figures = [pa.array(generator.random(PIECE * OFFERS)) for _ in range(3)]
    pair = records.SCHEMAS[records.DECISIONS].field("pairs").type.value_type
    pairs = pa.StructArray.from_arrays([names, *figures], fields=list(pair))
    columns = {
        "date": decided_at.cast(pa.date32()),
        "decided_at": decided_at,
        "decision_id": pa.array([f"{one:032x}" for one in ids]),
        "customer": pa.array([f"{one % 300_000:064x}" for one in ids]),
        "inputs": pa.array([_TEXT] * PIECE),
        "answer": pa.array([_TEXT * 3] * PIECE),
        "pairs": pa.ListArray.from_arrays(np.arange(0, PIECE * OFFERS + 1, OFFERS, np.int32), pairs),
        "offer_id": pa.array([f"offer-{place}" for place in generator.integers(OFFERS, size=PIECE)]),
    }
    return _filled(columns, records.DECISIONS, PIECE)


def _filled(columns: dict[str, pa.Array], name: str, count: int) -> pa.Table:
    schema = records.SCHEMAS[name]
    arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in schema]
    typed = [one.cast(field.type) for one, field in zip(arrays, schema, strict=True)]
    return pa.Table.from_arrays(typed, schema=schema)


def _moments(ids: np.ndarray) -> np.ndarray:
    """Ten days, evenly."""
    steps = (ids * (10 * 86_400_000_000 // DECISIONS)).astype("m8[us]")
    return np.asarray(np.datetime64(_BEGUN.replace(tzinfo=None), "us") + steps)


def main() -> None:
    tables = DeltaTables.at(sys.argv[1], Settings())
    started, cpu = time.perf_counter(), time.process_time()
    labels = observed(tables, timedelta(days=30))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    # The kernel's `ru_maxrss` would count what the parent held when it forked, so its own peak is read.
    mib = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "mib": mib, "accepted": int(labels["outcome"].sum())}))


if __name__ == "__main__":
    main()
