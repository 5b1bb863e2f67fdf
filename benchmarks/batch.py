"""The batch part of `make bench`: customers to their best three offers in a table, beside raw `inplace_predict`.

OFFERS_BENCH_CUSTOMERS says how many customers, 1 000 000 by default.
"""

import os
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
    customers, output = material.scratch / "customers.parquet", material.scratch / "scored"
    _simulate(material, customers)
    seconds, mib = _scored(material, customers, output)
    raw, pairs_a_customer = _raw(material)
    figures = table(f"{CUSTOMERS:,} customers x {pairs_a_customer} offers, one core", "", "pairs/s", "seconds", "MiB")
    pairs = CUSTOMERS * pairs_a_customer
    figures.add_row("raw inplace_predict on all pairs", f"{raw:,.0f}", f"{pairs / raw:,.0f}", "")
    figures.add_row("offers score, file to file", f"{pairs / seconds:,.0f}", f"{seconds:,.0f}", f"{mib:,.0f}")
    figures.add_row("ratio", f"{pairs / seconds / raw:.2f}", "", "")
    console.print(figures)
    console.print("to reach: a ratio of 1.5, 500 MiB at most\n")


def _simulate(material: Material, path: Path) -> None:
    console.print(f"simulating {CUSTOMERS:,} customers", style="dim")
    world, writer = World(material.contract, 0), None
    for first in range(0, CUSTOMERS, BLOCK):
        count = min(BLOCK, CUSTOMERS - first)
        frame = world.sample(count, seed=first).frame.assign(customer_id=np.arange(first, first + count))
        rows = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or parquet.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def _scored(material: Material, customers: Path, output: Path) -> tuple[float, float]:
    """CPU seconds and peak memory of the command, in a process of its own."""
    where = [str(customers), str(output), "--bundle", str(material.bundle), "--catalogue", CONTRACT, "--threads", "1"]
    # The peak that a parent is told of counts what the parent itself held when it forked.
    code = (
        "import pathlib, sys, time\nfrom cli.main import main\nsys.argv[0] = 'offers'\ntry:\n    main()\nfinally:\n"
        "    print(time.process_time(), pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", code, "score", *where]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, kib = done.stdout.split()[-2:]
    return float(seconds), float(kib) / 1024


def _raw(material: Material) -> tuple[float, int]:
    """Pairs a CPU second of the booster alone, on matrices that are encoded already."""
    model, policy = bundles.load(material.bundle).model, material.policy
    matrix = model.encoder.encode(World(material.contract, 0).sample(RAW).frame)
    model.booster.set_param({"nthread": 1})
    began = time.process_time()
    for _ in policy.offers:
        model.booster.inplace_predict(matrix, predict_type="margin")
    return RAW * len(policy.offers) / (time.process_time() - began), len(policy.offers)
