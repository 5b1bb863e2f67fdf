"""Live decisions of a simulated club: rows scored by a bundle, with outcomes drawn from the true propensities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.data.csv_writer import write_csv
from offers.simulation.shifts import Regime
from offers.simulation.world import World
from tests.support.runs import ShopRun, train_file

CLUB = """\
name: club
title: A club that offers its members a season ticket
source: {file: club.csv}
target: {column: bought, positive: yes, negative: no, matures_after_days: 10}
time: {column: asked}
columns:
  - {name: asked, role: time, type: date}
  - {name: age, role: customer, type: integer, min: 16, max: 100, protected: true, bands: [30, 60]}
  - {name: income, role: customer, type: number, min: 0, max: 500}
  - {name: visits, role: customer, type: integer, min: 0, max: 60, missing: [99]}
  - {name: sport, role: customer, type: category, values: [football, tennis, rowing, chess]}
  - {name: channel, role: offer, type: category, values: [mail, phone, web]}
  - {name: member, role: customer, type: boolean}
  - {name: region, role: protected, type: category, values: [north, south]}
  - {name: weather, role: context, type: number, drift: expected}
  - {name: bought, role: target, type: category}
evaluation: {train_share: 0.5, windows: 1, refit_every: 1000, bootstrap: 50}
model: {trees: 60, depth: 3, learning_rate: 0.1}
watch: {window: 500}
gate: [{metric: auc, at_least: 0.6}]
simulation: {base_rate: 0.25, customer_spread: 1.2}
"""
TRAINED_ON, LIVE = 5000, 3000


@dataclass(frozen=True)
class LiveRows:
    """Scored rows and outcomes, as the tables that files are written from."""

    scored: pd.DataFrame
    outcomes: pd.DataFrame

    @property
    def end(self) -> str:
        """The moment after the last row."""
        return (self.scored["scored_at"].iloc[-1] + pd.Timedelta(seconds=1)).isoformat()

    def write(self, directory: Path) -> tuple[str, str]:
        """Write the rows in two files of a directory, the outcomes in one, and name both."""
        (directory / "scored").mkdir(parents=True, exist_ok=True)
        half = len(self.scored) // 2
        self.scored[:half].to_parquet(directory / "scored" / "a.parquet", index=False)
        self.scored[half:].to_parquet(directory / "scored" / "b.parquet", index=False)
        self.outcomes.to_parquet(directory / "outcomes.parquet", index=False)
        return str(directory / "scored"), str(directory / "outcomes.parquet")


def train_club(directory: Path) -> ShopRun:
    """Train on rows of the world as it is at first."""
    contract, path = contracts.parse(CLUB), directory / "club.csv"
    write_csv(World(contract).sample(TRAINED_ON).frame, contract, path)
    return train_file(directory, CLUB, path)


def live(bundle: Path, regimes: Sequence[Regime] = (), rows: int = LIVE, seed: int = 0) -> LiveRows:
    """Let a bundle score the world's next rows; `at` of a regime counts from the first of them."""
    made = bundles.load(bundle)
    moved = [replace(regime, at=regime.at + TRAINED_ON) for regime in regimes]
    sample = World(made.contract).sample(rows, start=TRAINED_ON, regimes=moved)
    inputs = sample.frame[[column.name for column in made.contract.inputs]]
    decision = [f"d{row:05}" for row in range(rows)]
    scored = {
        "decision_id": decision,
        "customer_id": [f"c{row % 700}" for row in range(rows)],
        "scored_at": pd.Series(sample.decided_at).dt.tz_localize("UTC"),
        "bundle": made.name,
        "_propensity": made.model.propensity(inputs),
    }
    outcomes = {
        "decision_id": decision,
        "outcome": np.random.default_rng(seed).random(rows) < sample.propensity,
        "observed_at": pd.Series(sample.outcome_at).dt.tz_localize("UTC"),
    }
    return LiveRows(pd.concat([pd.DataFrame(scored), inputs], axis=1), pd.DataFrame(outcomes))
