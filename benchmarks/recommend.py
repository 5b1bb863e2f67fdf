"""The part `recommend` of `make bench`: answers by id under a constant rate, from SQLite and from Redis.

The floor is the same process's answer to its health probe: what HTTP costs without a user, a model and a list.
"""

import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks.load import Load, answer, constant_rate, counted, get
from benchmarks.material import Material, console, table
from cli.market_service import recommender
from offers.contract import market as markets
from offers.contract.market import Market
from offers.data.market import write_simulated
from offers.data.online import OnlineUsers
from offers.errors import StorageError
from offers.retrieval.training import train
from offers.simulation.market import SimulatedMarket
from offers.store.online import open_online_store

USERS, PRODUCTS, TRAINED = 1_000_000, 500, 20_000
"""Users online, products, and users of the smaller market of the same products that the bundle is trained on.

Of 5 000 users the towers learn too little: the gate refuses them, and every answer scores all products.
"""

RATE, SECONDS, WARM_UP = 200, 20.0, 2_000


def main(material: Material) -> None:
    directory = material.scratch / "recommend"
    text = markets.text("fintech").replace("users: 20000, products: 100,", f"users: {TRAINED}, products: {PRODUCTS},")
    market = markets.parse(text)
    write_simulated(SimulatedMarket(market, seed=0), directory / "trained")
    train(text, directory / "trained", directory / "bundles")
    (bundle,) = (one.parent for one in (directory / "bundles").glob("*/manifest.json"))
    # Few views of each, because only the number of rows matters here.
    sizes = market.simulation.model_copy(update={"users": USERS, "views": 2.0})
    write_simulated(SimulatedMarket(market.model_copy(update={"simulation": sizes}), seed=0), directory / "online")
    columns = ("asked", "p50 ms", "p99 ms", "worst ms", "errors", "CPU ms", "MiB", "answers by ground")
    figures = table(f"{RATE} requests a second for {SECONDS:g} s, {USERS:,} users, {PRODUCTS} products", *columns)
    for name, place in _stores(directory):
        seconds = _load(market, directory / "online", place)
        console.print(f"{name}: {USERS:,} users loaded in {seconds:.1f} s of CPU", style="dim")
        with recommender(bundle, place, directory / f"{name}-logs") as running:
            process, port = psutil.Process(running.process.pid), running.bound["http_port"]
            ids = np.random.default_rng(0).integers(0, USERS, 5_000)
            requests = [get(f"/recommend/{one}?k=10") for one in ids]
            counted(port, requests, 1, WARM_UP)
            for what, asked in (("/healthz, the floor", [get("/healthz")]), (f"users from {name}", requests)):
                before, answers = _cpu(process), _grounds(port)
                load = constant_rate(port, asked, RATE, SECONDS)
                figures.add_row(what, *_figures(load), f"{(_cpu(process) - before) / len(load.latencies) * 1e3:.2f}",
                                f"{_resident(process):.0f}", _shares(_grounds(port) - answers))  # fmt: skip
    console.print(figures)
    console.print("to reach: p50 of 5 ms, p99 of 20 ms\n")


def _grounds(port: int) -> Counter[str]:
    """Count the answers so far by the ground on which they stand."""
    text = answer(port, get("/metrics")).decode()
    found = re.findall(r'^offers_recommendations_total{ground="(\w+)"} ([\d.e+]+)$', text, re.MULTILINE)
    return Counter({ground: round(float(count)) for ground, count in found})


def _shares(answers: Counter[str]) -> str:
    return ", ".join(f"{ground} {count / answers.total():.1%}" for ground, count in answers.most_common() if count)


def _figures(load: Load) -> list[str]:
    return [*(f"{load.ms(percent):.2f}" for percent in (50, 99, 100)), str(load.errors)]


def _load(market: Market, tables: Path, place: str) -> float:
    before = time.process_time()
    with closing(open_online_store(place, new=True)) as store:
        OnlineUsers(market).load(tables, store)
    return time.process_time() - before


def _stores(directory: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", str(directory / "users.db")
    program = shutil.which("redis-server")
    if program is None:
        console.print("[bold yellow]NO REDIS: there is no redis-server[/bold yellow]")
        return
    with _redis(program, directory) as url:
        yield "Redis", url


@contextmanager
def _redis(program: str, directory: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _await(f"redis://127.0.0.1:{port}/0")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()


def _await(url: str) -> None:
    end = time.monotonic() + 30
    with closing(open_online_store(url)) as store:
        while time.monotonic() < end:
            try:
                store.generation()
            except StorageError as error:
                # An empty Redis answers, too.
                if "no load" in str(error):
                    return
                time.sleep(0.05)


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    return float(sum(sum(one.cpu_times()[:2]) for one in _family(process)))


def _resident(process: psutil.Process) -> float:
    return float(sum(one.memory_info().rss for one in _family(process)) / 2**20)
