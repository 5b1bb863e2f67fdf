"""Traffic for the demo: customers as they were, and customers of a simulated world that has changed."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from offers.contract.column import Role
from offers.contract.contract import Contract
from serving.asking import ask

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.settings import Settings

BATCH = 250
"""Customers of one request."""


def batches(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows in pieces, one for each request."""
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def send(ranker: str, contract: Contract, rows: pd.DataFrame, first: int = 0) -> list[dict[str, Any]]:
    """Ask a ranker about each row's customer, in one request; their ids number from `first`. Returns the answers."""
    parts = {
        part: [column.name for column in contract.inputs if column.role == role]
        for part, role in (("customer", Role.CUSTOMER), ("context", Role.CONTEXT))
    }
    columns = [name for names in parts.values() for name in names]
    plain = json.loads(rows[columns].to_json(orient="records", double_precision=15))
    instances = [
        {"customer_id": f"c{place}"} | {part: {name: row[name] for name in names} for part, names in parts.items()}
        for place, row in enumerate(plain, first)
    ]
    answers: list[dict[str, Any]] = ask(ranker, {"instances": instances})["predictions"]
    return answers


def shifted(bundle: "Bundle", rows: int, start: int = 0, log_odds: float = 0.0) -> pd.DataFrame:
    """Contacts with customers of a simulated world, older than before, in the timeline's last month.

    Who the customers are has changed. How they decide has changed only by `log_odds`, which are added to those of the
    bundle before outcomes are drawn.

    Parameters
    ----------
    start : row of the world's stream at which the customers begin
    """
    from scipy.special import expit, logit

    from offers.simulation.shifts import CovariateShift, ShareShift
    from offers.simulation.world import World

    contract = bundle.contract
    regimes = (CovariateShift(0, "age", 1.0), ShareShift(0, "job", "retired", 3.0))
    frame = World(contract).sample(rows, start=start, regimes=regimes).frame
    assert contract.time is not None
    assert contract.time.until is not None
    last = time.strftime("%b", time.strptime(contract.time.until, "%Y-%m")).lower()
    months = pd.Categorical([last] * rows, categories=list(contract[contract.time.column].values))
    frame = frame.assign(**{contract.time.column: months})
    propensity = expit(logit(bundle.model.propensity(frame)) + log_odds)
    accepted = np.random.default_rng(start).random(rows) < propensity
    return frame.assign(**{contract.target.column: accepted})


def contacts(contract: Contract, settings: "Settings", source: str, newest: pd.DataFrame, directory: Path) -> Path:
    """Write a file with all contacts of the source, followed by the newest ones, into a directory."""
    from offers.data import sources, validation
    from offers.data.csv_writer import write_csv

    so_far = validation.validate(sources.ingest(contract, settings, source).frame, contract).frame
    path = directory / contract.source.file
    write_csv(pd.concat([so_far, newest], ignore_index=True), contract, path)
    return path
