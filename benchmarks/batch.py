"""The batch part of `make bench`: customers to their best three offers in a table, and to a plan within limits.

OFFERS_BENCH_CUSTOMERS says how many customers, a million by default; the goals are those of 10 000 000.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.material import CONTRACT, Material, console, table
from offers.bundle import bundle as bundles
from offers.simulation.world import World

CUSTOMERS = int(os.environ.get("OFFERS_BENCH_CUSTOMERS", "1000000"))
BLOCK = 100_000
RAW = 100_000
"""Customers whose pairs the raw booster scores: its time a pair does not depend on their number."""


def main(material: Material) -> None:
    customers, top, pairs = (material.scratch / name for name in ("customers.parquet", "top", "pairs"))
    simulate(material, customers, CUSTOMERS)
    options = "--bundle", str(material.bundle), "--catalogue", CONTRACT, "--threads", "1"
    seconds, mib, _ = measured("score", str(customers), str(top), *options)
    measured("score", str(customers), str(pairs), *options, "--pairs")
    raw, offers = _raw(material)
    rate, million = CUSTOMERS * offers / seconds, 1e6 / CUSTOMERS
    campaign, limits = _campaign(material)
    where = str(pairs), campaign, str(material.scratch / "plan.parquet"), "--catalogue", CONTRACT
    cpu_seconds, peak, output = measured("campaign", *where)
    figures = table(f"{CUSTOMERS:,} customers x {offers} offers, one core of {machine()}", "", "measured", "to reach")
    figures.add_row("raw inplace_predict on all pairs, pairs/s", f"{raw:,.0f}", "")
    figures.add_row("offers score, file to file, pairs/s", f"{rate:,.0f}", "")
    figures.add_row("ratio of the two", f"{rate / raw:.2f}", ">= 1.5")
    figures.add_row(
        "offers score, CPU s a million customers", f"{seconds * million:,.0f}", "<= 72 (6 min, 2 cores, 10 M)"
    )
    figures.add_row("offers score, MiB", f"{mib:,.0f}", "<= 500")
    figures.add_row(
        f"offers campaign, {limits} limits, CPU s a million", f"{cpu_seconds * million:,.0f}", "<= 60 (10 min, 10 M)"
    )
    figures.add_row("offers campaign, MiB", f"{peak:,.0f}", "<= 1024")
    figures.add_row("offers campaign, below its bound", output.rpartition("within ")[2].split()[0], "<= 0.5 %")
    console.print(figures)
    console.print()


def _campaign(material: Material) -> tuple[str, int]:
    """A campaign with a limit for each channel, day and channel on a day, a budget, and a minimum for each family."""
    offers = material.policy.offers
    wheres: list[dict[str, object]] = []
    for columns in (["contact"], ["day_of_week"], ["contact", "day_of_week"]):
        for offer in offers:
            where: dict[str, object] = {name: offer.attributes[name] for name in columns}
            if where not in wheres:
                wheres.append(where)
    capacity = [
        {"name": f"limit-{place}", "where": where, "contacts": CUSTOMERS // (20 * len(where))}
        for place, where in enumerate(wheres)
    ]
    families = dict.fromkeys(offer.family for offer in offers)
    minimum = [{"family": family, "contacts": CUSTOMERS // 200} for family in families]
    text = {"name": "bench", "budget": CUSTOMERS / 4, "capacity": capacity, "minimum": minimum}
    return json.dumps(text, indent=1) + "\n", len(capacity) + len(minimum) + 1


def machine() -> str:
    """The processor's name, and how many of them there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {name}"


def simulate(material: Material, path: Path, customers: int) -> None:
    console.print(f"simulating {customers:,} customers", style="dim")
    world, writer = World(material.contract, 0), None
    for first in range(0, customers, BLOCK):
        count = min(BLOCK, customers - first)
        frame = world.sample(count, seed=first).frame.assign(customer_id=np.arange(first, first + count))
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or parquet.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def measured(*arguments: str) -> tuple[float, float, str]:
    """CPU seconds and peak memory of a command, in a process of its own, and what it says."""
    # The peak that a parent is told of counts what the parent itself held when it forked.
    code = (
        "import pathlib, sys, time\nfrom cli.main import main\nsys.argv[0] = 'offers'\ntry:\n    main()\nfinally:\n"
        "    print(time.process_time(), pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    process = subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    output, _, figures = process.stdout.rstrip().rpartition("\n")
    seconds, kib = figures.split()
    return float(seconds), float(kib) / 1024, output


def _raw(material: Material) -> tuple[float, int]:
    """Pairs a CPU second of the booster alone, on matrices that are encoded already."""
    model, policy = bundles.load(material.bundle).model, material.policy
    matrix = model.encoder.encode(World(material.contract, 0).sample(RAW).frame)
    model.booster.set_param({"nthread": 1})
    began = time.process_time()
    for _ in policy.offers:
        model.booster.inplace_predict(matrix, predict_type="margin")
    return RAW * len(policy.offers) / (time.process_time() - began), len(policy.offers)
