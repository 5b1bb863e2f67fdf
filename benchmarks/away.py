"""The part `away` of `make bench`: the predictor is killed under 100 requests a second, and comes back."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.load import answer, constant_rate
from benchmarks.material import CONTRACT, Material, console, table
from serving.local import locked, services, started

RATE = 100
BEFORE, FIRST, LATER, BACK = 3.0, 1.0, 6.0, 30.0
"""Seconds: before the predictor is killed, after that, from the second second on, and of its return at most."""


def main(material: Material) -> None:
    logs, again = material.scratch / "away-logs", material.scratch / "away-again"
    again.mkdir()
    with ExitStack() as stack:
        running = stack.enter_context(services(material.bundle, CONTRACT, logs))
        requests, port = material.requests(1, 1000), running.ranker.bound["http_port"]
        grpc_port = running.predictor.bound["grpc_port"]
        spells = {"predictor there": constant_rate(port, requests, RATE, BEFORE)}
        running.predictor.process.kill()
        spells["the first second without it"] = constant_rate(port, requests, RATE, FIRST)
        spells["from the second second on"] = constant_rate(port, requests, RATE, LATER)
        ports = ("--http_port", 0, "--grpc_port", grpc_port)
        lock = stack.enter_context(locked(again))
        start = stack.enter_context(started("predictor", again, lock, "--bundle", material.bundle, *ports))
        start()
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(constant_rate, port, requests, RATE, LATER)
            seconds = _until_scored(port, requests[0])
            spells["predictor back"] = coming.result()
    columns = ("requests", "sent", "failed", "p50 ms", "p99 ms", "worst ms")
    figures = table(f"A predictor killed under {RATE} requests a second", *columns)
    for name, spell in spells.items():
        times = (f"{spell.ms(percent):.1f}" for percent in (50, 99, 100))
        figures.add_row(name, str(len(spell.latencies)), str(spell.errors), *times)
    console.print(figures)
    console.print(f"scores were back {seconds:.2f} s after the predictor answered")
    console.print("to reach: none failed, p99 of 60 ms from the second second on, scores back within 2 s\n")


def _until_scored(port: int, request: bytes) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < BACK:
        if not json.loads(answer(port, request))["predictions"][0]["fallback"]:
            break
    return time.perf_counter() - start
