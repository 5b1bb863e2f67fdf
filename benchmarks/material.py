"""What the parts of `make bench` work on: the data, a bundle that is trained on it, requests about its customers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.load import post
from offers.contract import contract as contracts
from offers.contract.column import Role
from offers.contract.contract import Contract
from offers.data import sources
from offers.data.dataset import Dataset
from offers.data.validation import validate
from offers.errors import SourceError
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.settings import Settings
from offers.steps import data as ingestion
from offers.steps import training

CONTRACT = "bank-marketing"
NEWEST = 10_000
PREDICT = "/v1/models/offers:predict"
console = Console(highlight=False, width=100)


@dataclass(frozen=True)
class Material:
    """Made when it is first asked for, in a directory that goes when the bench ends."""

    scratch: Path

    @cached_property
    def source(self) -> str:
        """Where the rows come from: empty for the contract's own source, else the simulation, said loudly."""
        try:
            sources.fetch(self.contract, Settings.from_env())
        except SourceError as error:
            console.print(f"[bold yellow]SIMULATED DATA: {error}[/bold yellow]")
            return "simulated"
        return ""

    @cached_property
    def contract(self) -> Contract:
        return contracts.load(CONTRACT)

    @cached_property
    def policy(self) -> Policy:
        return Policy(catalogues.load(CONTRACT, self.contract), self.contract)

    @cached_property
    def dataset(self) -> Dataset:
        raw = sources.ingest(self.contract, Settings.from_env(), self.source).frame
        return Dataset.prepare(validate(raw, self.contract).frame, self.contract)

    @cached_property
    def bundle(self) -> Path:
        console.print("training the bundle that is served", style="dim")
        for step in self.steps(self.scratch / "bundle").values():
            step()
        return next((self.scratch / "bundle" / "bundles").iterdir())

    def steps(self, directory: Path) -> dict[str, Callable[[], object]]:
        """The training pipeline's steps as library calls, which leave their files below `directory`."""
        directory.mkdir()
        settings, source = Settings.from_env(), self.source
        raw, typed, gold, fitted, result = (directory / name for name in ("raw", "typed", "gold", "model", "result"))
        verdict, page = directory / "verdict.json", directory / "page.html"

        def quiet(text: str) -> None:
            pass

        return {
            "ingest": lambda: ingestion.ingest(CONTRACT, source, raw, settings, quiet),
            "validate": lambda: ingestion.validate(CONTRACT, raw, typed, page, quiet),
            "prepare": lambda: ingestion.prepare(CONTRACT, typed, gold, quiet),
            "train": lambda: training.train(CONTRACT, gold, fitted, 0, 0, settings, quiet),
            "evaluate": lambda: training.evaluate(CONTRACT, gold, fitted, "", result, settings, quiet),
            "gate": lambda: training.gate(CONTRACT, gold, fitted, result, verdict, page, settings, quiet),
            "package": lambda: training.package(
                CONTRACT,
                training.Candidate(gold, fitted, result, verdict),
                directory / "bundles",
                "",
                settings,
                quiet,
            ),
        }

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Inputs and target of all contacts as a caller writes them: words, and the token of a missing number."""
        frame, inputs = self.dataset.frame, self.contract.inputs
        tokens = {column.name: float(column.missing[0]) for column in inputs if column.missing}
        types = {c.name: {"category": object, "integer": np.int64}.get(c.type, np.float64) for c in inputs}
        rows = frame[list(types)].fillna(tokens).astype(types)
        return rows.assign(**{self.contract.target.column: self.dataset.labels})

    @cached_property
    def customers(self) -> pd.DataFrame:
        """The newest contacts to whom the rules leave every offer."""
        eligible = self.policy.expand(_columns(self.dataset.frame.tail(NEWEST))).eligible.all(axis=1)
        return self.rows.tail(NEWEST)[eligible]

    def requests(self, n_customers: int, count: int) -> list[bytes]:
        """Requests about so many customers each, no customer twice in a request."""
        instances = self._instances(n_customers * count)
        return [
            post(PREDICT, json.dumps({"instances": instances[start : start + n_customers]}).encode())
            for start in range(0, len(instances), n_customers)
        ]

    def pairs(self) -> dict[str, np.ndarray]:
        """Columns of one call to the predictor: one customer with every offer."""
        return self.policy.expand(_columns(self.dataset.frame.loc[self.customers.index[:1]])).columns

    def _instances(self, count: int) -> list[dict[str, Any]]:
        parts = {
            part: self.customers[[c.name for c in self.contract.inputs if c.role == role]].to_dict("records")
            for part, role in (("customer", Role.CUSTOMER), ("context", Role.CONTEXT))
        }
        people = list(zip(parts["customer"], parts["context"], strict=True))
        return [
            {"customer_id": f"customer-{number}", "customer": customer, "context": context}
            for number in range(count)
            for customer, context in [people[number % len(people)]]
        ]


def _columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        name: values.to_numpy(object if isinstance(values.dtype, pd.CategoricalDtype) else float)
        for name, values in frame.items()
    }


def table(title: str, *headings: str) -> Table:
    """A table whose first column holds words, and the others figures."""
    figures = Table(title=title)
    for place, heading in enumerate(headings):
        figures.add_column(heading, justify="right" if place else "left")
    return figures
