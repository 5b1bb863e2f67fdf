"""The Spark part of `make bench`: what Spark on two cores takes beside the loop, once and for each customer.

OFFERS_BENCH_CUSTOMERS says how many customers the larger of two tables has, 200 000 by default.
"""

import os
import subprocess
import sys

import psutil

from benchmarks.batch import machine, measured, simulate
from benchmarks.material import CONTRACT, Material, console, table
from offers.steps.spark_scoring import PYTHON

CUSTOMERS = int(os.environ.get("OFFERS_BENCH_CUSTOMERS", "200000"))
SHARE = 10
"""The smaller table has so many times fewer customers."""
PAUSE = 0.5
"""Seconds between two looks at the processes."""


def main(material: Material) -> None:
    if not PYTHON.exists():
        console.print(f"{PYTHON} is not there, so Spark is not measured; 'make spark' installs it\n", style="dim")
        return
    loop, spark, peak = list[float](), list[float](), 0.0
    sizes = CUSTOMERS // SHARE, CUSTOMERS
    for size in sizes:
        customers = material.scratch / f"customers-{size}.parquet"
        simulate(material, customers, size)
        order = "score", str(customers), str(material.scratch / f"loop-{size}")
        options = "--bundle", str(material.bundle), "--catalogue", CONTRACT
        loop.append(measured(*order, *options)[0])
        order = "score", str(customers), str(material.scratch / f"spark-{size}")
        seconds, mib = _with_children(*order, *options, "--spark", "local[2]")
        spark.append(seconds)
        peak = max(peak, mib)
    each, own = ((later - first) / (sizes[1] - sizes[0]) for first, later in (spark, loop))
    figures = table(
        f"{sizes[0]:,} and {sizes[1]:,} customers, Spark on two cores of {machine()}", "", "measured", "to reach"
    )
    figures.add_row("Spark, CPU s whatever the size", f"{spark[0] - each * sizes[0]:.0f}", "<= 40")
    figures.add_row("Spark, CPU s a million customers", f"{each * 1e6:.0f}", "")
    figures.add_row("the loop, CPU s a million customers", f"{own * 1e6:.0f}", "")
    figures.add_row("more for each customer than the loop", f"{each / own - 1:.0%}", "<= 25 %")
    figures.add_row("Spark, MiB of all its processes", f"{peak:,.0f}", "<= 1229")
    console.print(figures)
    console.print()


def _with_children(*arguments: str) -> tuple[float, float]:
    """CPU seconds and peak memory (MiB, what is shared counted once) of a command and all processes that it starts."""
    seconds, peak = dict[int, float](), 0.0
    with subprocess.Popen([sys.executable, "-m", "cli", *arguments], stdout=subprocess.DEVNULL) as command:
        while True:
            pss = 0
            for process in _alive(command.pid):
                try:
                    times = process.cpu_times()
                    seconds[process.pid] = times.user + times.system
                    pss += process.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, pss / 2**20)
            try:
                command.wait(PAUSE)
                break
            except subprocess.TimeoutExpired:
                continue
    if command.returncode:
        sys.exit(f"offers {' '.join(arguments)}: ended with {command.returncode}")
    return sum(seconds.values()), peak


def _alive(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
