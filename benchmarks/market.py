"""The part `market` of `make bench`: the point-in-time join, the load of the online store, and all users in one run.

OFFERS_BENCH_USERS says how many users, a million by default. Each command is a process of its own.
"""

import os

from benchmarks.batch import machine, measured
from benchmarks.material import Material, console, table
from benchmarks.recommend import PRODUCTS, TRAINED
from offers.contract import market as markets
from offers.data.market import write_simulated
from offers.retrieval.training import train
from offers.simulation.market import SimulatedMarket

USERS = int(os.environ.get("OFFERS_BENCH_USERS", "1000000"))
ONE_VIEW = 1.15
"""Mean number of views with which the simulated market has about as many views as users, as some users join later."""


def main(material: Material) -> None:
    directory = material.scratch / "market"
    text = markets.text("fintech").replace("users: 20000, products: 100,", f"users: {TRAINED}, products: {PRODUCTS},")
    market = markets.parse(text)
    directory.mkdir(parents=True)
    contract = directory / "market.yaml"
    contract.write_text(text, "utf-8")
    write_simulated(SimulatedMarket(market, seed=0), directory / "trained")
    bundle, _ = train(text, directory / "trained", directory / "bundles")
    for name, views in (("one", ONE_VIEW), ("many", market.simulation.views)):
        sizes = market.simulation.model_copy(update={"users": USERS, "views": views})
        write_simulated(SimulatedMarket(market.model_copy(update={"simulation": sizes}), seed=0), directory / name)
    store = directory / "users.db"
    options = ("--market", contract)
    rows = {
        "join of a view of each user": ("market", "features", directory / "one", directory / "rows.parquet", *options),
        "load, SQLite": ("market", "load", directory / "many", store, *options),
        "all users in one run": ("score", directory / "many", directory / "scored", "--bundle", bundle),
    }
    goals = {"join of a view of each user": "5 s, 1536 MiB", "load, SQLite": "15 s", "all users in one run": "1024 MiB"}
    figures = table(f"{USERS:,} users x {PRODUCTS} products, {machine()}", "", "CPU s", "MiB", "to reach, of a million")
    for name, arguments in rows.items():
        seconds, mib, _ = measured(*map(str, arguments))
        figures.add_row(name, f"{seconds:.1f}", f"{mib:,.0f}", f"<= {goals[name]}")
    figures.add_row("the store's file", "", f"{store.stat().st_size / 2**20:,.0f}", "<= 105 MiB")
    console.print(figures)
    console.print()
