"""A whole training run of the shop's contract, made once by the library alone, for tests of what comes of one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from offers.bundle.bundle import load_model
from offers.bundle.writing import save_model
from offers.contract import contract as contracts
from offers.data.csv_writer import write_csv
from offers.model.calibrator import Platt
from offers.settings import Settings
from offers.simulation.shifts import RateShift
from offers.simulation.world import Sample, World
from offers.steps import data as ingestion
from offers.steps import training


@dataclass(frozen=True)
class ShopRun:
    """Where each step of a run has left its results."""

    directory: Path
    text: str

    @property
    def contract_file(self) -> Path:
        return self.directory / "shop.yaml"

    @property
    def csv(self) -> Path:
        return self.directory / "orders.csv"

    @property
    def gold(self) -> Path:
        return self.directory / "gold"

    @property
    def model(self) -> Path:
        return self.directory / "model"

    @property
    def result(self) -> Path:
        return self.directory / "result"

    @property
    def verdict(self) -> Path:
        return self.directory / "verdict.json"

    @property
    def bundle(self) -> Path:
        return next(path for path in (self.directory / "bundles").iterdir())

    def package(self, directory: Path, model: Path | None = None) -> str:
        """Package the run again, below another directory or with another model."""
        candidate = training.Candidate(self.gold, model or self.model, self.result, self.verdict)
        settings = Settings(home=self.directory)
        return training.package(self.text, candidate, directory, "", settings, lambda text: None)


def other_bundle(run: ShopRun, directory: Path) -> Path:
    """The same model with another calibration, as a bundle of its own."""
    model = shutil.copytree(run.model, directory / "model")
    fitted = load_model(model)
    save_model(replace(fitted, calibrator=Platt(intercept=-0.25)), model)
    return directory / "bundles" / run.package(directory / "bundles", model)


def train_shop(directory: Path, text: str, rows: Callable[..., pd.DataFrame]) -> ShopRun:
    """Run every step on 3 000 made-up rows."""
    path = directory / "orders.csv"
    rows(3000).to_csv(path, sep=";", index=False)
    return train_file(directory, text, path)


def train_file(directory: Path, text: str, csv: Path | str, parent: str = "") -> ShopRun:
    """Run every step on the rows of a source; where a parent is named, its update takes the place of training."""
    run = ShopRun(directory, text)
    run.contract_file.write_text(text)
    settings, said = Settings(home=directory), list[str]()
    raw, typed = directory / "raw", directory / "typed"
    ingestion.ingest(text, str(csv), raw, settings, said.append)
    ingestion.validate(text, raw, typed, directory / "validation.html", said.append)
    ingestion.prepare(text, typed, run.gold, said.append)
    if parent:
        training.update(text, run.gold, parent, 0, run.model, settings, said.append)
    else:
        training.train(text, run.gold, run.model, 0, 0, settings, said.append)
    training.evaluate(text, run.gold, run.model, parent, run.result, settings, said.append)
    page = directory / "report.html"
    training.gate(text, run.gold, run.model, run.result, run.verdict, page, settings, said.append)
    run.package(directory / "bundles")
    return run


@dataclass(frozen=True)
class ShiftedRun:
    """A world in which acceptance rises all at once: a bundle from before, and one updated after it.

    `sample` holds the rows of both in time order, and newer ones that neither has seen.
    """

    sample: Sample
    parent: ShopRun
    child: ShopRun


def update_shifted(directory: Path, shop: str) -> ShiftedRun:
    """Train on 3 000 rows, let 1 500 follow after the shift, and update on them."""
    text = shop.replace("refit_every: 100", "refit_every: 250")
    text += "simulation: {base_rate: 0.2, customer_spread: 1.5, period_spread: 0}\n"
    contract = contracts.parse(text)
    sample = World(contract).sample(8000, regimes=[RateShift(at=3000, logits=1.5)])
    runs = list[ShopRun]()
    for name, rows in (("parent", 3000), ("child", 4500)):
        (directory / name).mkdir()
        csv = directory / name / "orders.csv"
        write_csv(sample.frame.iloc[:rows], contract, csv)
        runs.append(train_file(directory / name, text, csv, str(runs[0].bundle) if runs else ""))
    return ShiftedRun(sample, *runs)


def offers(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Call the installed command as a user would, its files below `home`."""
    environment = {key: value for key, value in os.environ.items() if key != "OFFERS_DATA_DIR"}
    command = [str(Path(sys.executable).parent / "offers"), *map(str, arguments)]
    return subprocess.run(
        command, env=environment | {"OFFERS_HOME": str(home)}, cwd=home, capture_output=True, text=True, check=False
    )
