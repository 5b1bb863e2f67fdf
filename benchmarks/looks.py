"""Looks at an experiment in a log of a million decisions: the first, a later one, and one after new decisions."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from benchmarks.material import CONTRACT, Material, console
from offers.contract import contract as contracts
from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.decisions import log, records
from offers.decisions.period import Period
from offers.decisions.pieces import Pieces, Sample
from offers.experiments.comparison import compare
from offers.experiments.evidence import evidence
from offers.experiments.experiment import Experiment, ExperimentArm
from offers.experiments.members import members
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.reports.evidence import told
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.app import MEMORY

DECISIONS, CUSTOMERS, OUTCOMES, BASE, PIECE = 1_000_000, 300_000, 400_000, 5_000, 50_000
EXPERIMENT = Experiment(name="dearer", arms=(ExperimentArm(name="a", share=0.2, catalogue=Path("candidate.yaml")),))
_BEGUN = datetime(2024, 1, 1, tzinfo=UTC)
_LATER = _BEGUN + timedelta(days=120)


def policy_of(contract: Contract) -> Policy:
    """The shipped catalogue, exploring."""
    exploring = catalogues.text(CONTRACT).replace("{k: 3,", "{k: 3, exploration: {kind: epsilon, epsilon: 0.1},")
    return Policy(catalogues.parse(exploring, contract), contract)


def write(directory: Path, rows: pd.DataFrame, contract: Contract) -> None:
    """Write what a shipper would have, from customers of the data."""
    tables, policy = DeltaTables.at(str(directory), Settings()), policy_of(contract)
    event = orjson.loads(log.policy(policy, contract))
    kept = records.collected([orjson.dumps(event)], "bench", 0).tables()[records.POLICIES]
    tables.append(records.POLICIES, kept, "bench", 0)
    base = _base(rows.iloc[:BASE], policy, contract)
    for number in range(DECISIONS // PIECE):
        append(tables, base, number)
    generator = np.random.default_rng(1)
    accepted = generator.choice(DECISIONS, OUTCOMES, replace=False)
    observed_at = pa.array(_moments(accepted) + np.timedelta64(1, "D"), pa.timestamp("us", tz="UTC"))
    columns = {
        "date": observed_at.cast(pa.date32()),
        "observed_at": observed_at,
        "received_at": observed_at,
        "decision_id": pa.array([f"{one:032x}" for one in accepted]),
        "kind": pa.array(np.where(generator.random(OUTCOMES) < 0.3, "accepted", "declined").astype(object)),
    }
    tables.append(records.OUTCOMES, _filled(columns, records.OUTCOMES, OUTCOMES), "bench", 0, ("date",))


def append(tables: DeltaTables, base: pa.Table, number: int) -> None:
    """Append a piece of decisions: the customers of the base, with names and moments of their own."""
    ids = np.arange(number * PIECE, (number + 1) * PIECE)
    decided_at = pa.array(_moments(ids), pa.timestamp("us", tz="UTC"))
    customers = [f"{(one % CUSTOMERS) * 0x9E3779B97F4A7C15 % 2**64:016x}{one % CUSTOMERS:048x}" for one in ids.tolist()]
    arms = np.array([EXPERIMENT.arm_name(place) for place in EXPERIMENT.assign(customers).tolist()], object)
    generator = np.random.default_rng(number)
    repeated = base.take(pa.array(np.tile(np.arange(len(base)), PIECE // len(base))))
    columns = {name: repeated[name].combine_chunks() for name in base.column_names} | {
        "date": decided_at.cast(pa.date32()),
        "decided_at": decided_at,
        "decision_id": pa.array([f"{one:032x}" for one in ids]),
        "customer": pa.array(customers),
        "arm": pa.array(arms),
        "latency_ms": pa.array(generator.gamma(2.0, 2.0, PIECE)),
        "pairs": _jittered(repeated["pairs"].combine_chunks(), generator),
    }
    tables.append(records.DECISIONS, _filled(columns, records.DECISIONS, PIECE), "bench", number, ("date",))


def _base(rows: pd.DataFrame, policy: Policy, contract: Contract) -> pa.Table:
    """Decisions about customers of the data, by the policy, with propensities at random."""
    asked = [column.name for column in contract.inputs if column.role != Role.OFFER]
    columns = {
        column.name: rows[column.name].to_numpy(object if column.type == "category" else float)
        for column in contract.inputs
        if column.name in asked
    }
    columns = {
        name: np.where(pd.isna(values), None, values) if values.dtype == object else values
        for name, values in columns.items()
    }
    generator, pairs = np.random.default_rng(0), policy.expand(columns)
    propensity = generator.beta(1, 9, len(pairs))
    shares, _ = policy.first_place(pairs, propensity)
    scores = policy.scores(pairs, propensity)
    ids = [offer.id for offer in policy.offers]
    figures = [
        _pairs(ids, propensity[pairs.row[row]], scores[row], shares[row], pairs.eligible[row])
        for row in range(len(rows))
    ]
    draws = (shares.cumsum(axis=1) > generator.random((len(rows), 1))).argmax(axis=1)
    catalogue = policy.catalogue
    words = {
        "experiment": EXPERIMENT.name,
        "catalogue": f"{catalogue.name}-{catalogue.version}",
        "contract": contract.name,
        "model": "bank-marketing-1",
        "fallback": False,
        "answer": "x" * 1200,
    }
    inputs = [
        orjson.dumps(dict(zip(columns, row, strict=True))).decode()
        for row in zip(*(values.tolist() for values in columns.values()), strict=True)
    ]
    offered = [ids[draw] if shares[row].sum() else None for row, draw in enumerate(draws.tolist())]
    own = {"inputs": inputs, "pairs": figures, "offer_id": offered}
    schema = records.SCHEMAS[records.DECISIONS]
    every = own | {name: [value] * len(rows) for name, value in words.items()}
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in every.items()})


def _pairs(ids: list[str], *figures: np.ndarray) -> list[dict[str, object]]:
    *told, eligible = figures
    names = ("offer_id", "propensity", "score", "action_probability")
    rows = zip(ids, *(values.tolist() for values in told), strict=True)
    return [dict(zip(names, row, strict=True)) for row, there in zip(rows, eligible, strict=True) if there]


def _jittered(pairs: pa.ListArray, generator: np.random.Generator) -> pa.ListArray:
    """Make each figure unlike the others by a millionth, so that files are as large as those of real decisions."""
    flat, noise = pairs.flatten(), 1 + 1e-6 * generator.random(len(pairs.flatten()))
    figures = [flat.field(name).to_numpy() * noise for name in ("propensity", "score")]
    columns = [flat.field("offer_id"), *map(pa.array, figures), flat.field("action_probability")]
    return pa.ListArray.from_arrays(pairs.offsets, pa.StructArray.from_arrays(columns, fields=list(flat.type)))


def _filled(columns: dict[str, pa.Array], name: str, count: int) -> pa.Table:
    schema = records.SCHEMAS[name]
    arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in schema]
    return pa.Table.from_arrays(
        [one.cast(field.type) for one, field in zip(arrays, schema, strict=True)], schema=schema
    )


def _moments(ids: np.ndarray) -> np.ndarray:
    """Ten days, evenly."""
    steps = (ids * (10 * 86_400_000_000 // DECISIONS)).astype("m8[us]")
    return np.asarray(np.datetime64(_BEGUN.replace(tzinfo=None), "us") + steps)


def main(material: Material) -> None:
    """Print what looks cost, in a process of its own, whose memory is that of the looks."""
    directory = material.scratch / "looks"
    console.print(f"writing {DECISIONS:,} decisions and {OUTCOMES:,} outcomes", style="dim")
    write(directory, material.dataset.frame, material.contract)
    call = [sys.executable, "-m", "benchmarks.looks", str(directory)]
    found = json.loads(subprocess.run(call, check=True, capture_output=True, text=True, env=MEMORY | os.environ).stdout)
    for name, cpu in found["cpu"].items():
        console.print(f"{name}: {cpu:.1f} s of CPU")
    console.print(f"{found['mib']:.0f} MiB at the peak; to reach: <= 1024 MiB\n")


def _look(directory: str) -> None:
    tables, cpu = DeltaTables.at(directory, Settings()), dict[str, float]()
    contract, period, pieces, sample = contracts.load(CONTRACT), Period(None, _LATER, _LATER), Pieces(), Sample(20_000)
    candidate = catalogues.load(CONTRACT, contract)

    def timed(name: str, look: Callable[[], object]) -> None:
        begun = time.process_time()
        look()
        cpu[name] = time.process_time() - begun

    def arms() -> None:
        people = members(tables, EXPERIMENT.name, period, pieces=pieces)
        assigned = EXPERIMENT.members(people.everybody)
        compare(people.customers, EXPERIMENT.shares, people.protected, assigned)

    def held_against() -> None:
        list(told(evidence(tables, candidate, contract, None, _LATER, _LATER, None, sample), 30))

    for place in ("first", "later"):
        timed(f"arms of an experiment, {place} look", arms)
        timed(f"candidate on a sample, {place} look", held_against)
    # Of this program alone: getrusage tells the peak of the process that became it, too.
    status = Path("/proc/self/status").read_text("utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"cpu": cpu, "mib": peak / 1024}))


if __name__ == "__main__":
    _look(sys.argv[1])
