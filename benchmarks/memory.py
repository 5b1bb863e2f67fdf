"""The memory part of `make bench`: what predictor and ranker hold over 100 000 requests."""

import numpy as np
import psutil

from benchmarks.load import counted
from benchmarks.material import CONTRACT, Material, console, table
from serving.local import services

WARM_UP, BLOCK, BLOCKS = 2_000, 10_000, 10
AT_A_TIME = 4


def main(material: Material) -> None:
    with services(material.bundle, CONTRACT, material.scratch / "memory-logs") as running:
        requests, port = material.requests(1, 1000), running.ranker.bound["http_port"]
        processes = [psutil.Process(service.process.pid) for service in (running.ranker, running.predictor)]
        errors = counted(port, requests, AT_A_TIME, WARM_UP).errors
        readings = [_resident(processes)]
        for number in range(1, BLOCKS + 1):
            errors += counted(port, requests, AT_A_TIME, BLOCK).errors
            readings.append(_resident(processes))
            console.print(f"{number * BLOCK:,} requests of {BLOCKS * BLOCK:,}", style="dim")
    _show(np.array(readings), errors)


def _resident(processes: list[psutil.Process]) -> list[float]:
    return [process.memory_info().rss / 2**20 for process in processes]


def _show(held: np.ndarray, errors: int) -> None:
    figures = table(f"Resident memory after so many requests, MiB; {errors} errors", "requests", "ranker", "predictor")
    for number, row in enumerate(held):
        figures.add_row(f"{number * BLOCK:,}", *(f"{mib:.1f}" for mib in row))
    slopes = np.polyfit(np.arange(len(held)), held, 1)[0]
    figures.add_section()
    figures.add_row(f"slope, MiB per {BLOCK:,}", *(f"{slope:+.2f}" for slope in slopes))
    console.print(figures)
    console.print("to reach: a slope of 0.5 MiB at most\n")
