"""The pipeline's steps on data, from files to files: raw rows (bronze), typed rows (silver), rows to learn from (gold).

Each step is a process of its own, so each function imports only what it needs.
"""

from pathlib import Path

import pandas as pd

from offers import files
from offers.bundle.provenance import Provenance, TrainingData
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.data.dataset import Dataset, origin
from offers.errors import DataError
from offers.settings import Settings
from offers.wording import Say, counted

# Names of the files in the directories that these steps hand on.
ROWS, PROVENANCE, REFUSAL, DATA = "rows.parquet", "provenance.json", "refusal.txt", "data.json"


def ingest(contract_text: str, source: str, raw: Path, settings: Settings, say: Say = print) -> Provenance:
    """Fetch the rows unchanged (bronze)."""
    from offers.decisions import training_rows

    contract = contracts.load(contract_text)
    ingested = training_rows.ingest(contract, settings, source)
    is_own = ingested.sha256 is not None and ingested.sha256 == contract.source.sha256
    origin = contract.source.file if is_own else _lasting(ingested.origin)
    provenance = Provenance(origin=origin, source_sha256=ingested.sha256, rows=len(ingested.frame))
    files.save(raw, ROWS, ingested.frame)
    files.save(raw, PROVENANCE, provenance)
    say(f"{counted(provenance.rows, 'row')} from {ingested.origin}")
    return provenance


def validate(contract_text: str, raw: Path, typed: Path, page: Path, say: Say = print) -> int:
    """Type and check the rows (silver), and write the page that lists violations.

    Rows that break the contract are stored together with the refusal, and `prepare` stops the run. This step itself
    must not fail: on a cluster a failed step keeps no artifact, and its reader needs the page.

    Returns
    -------
    int
        number of broken rules
    """
    from offers.data import validation
    from offers.reports import training as report

    contract, provenance = contracts.load(contract_text), files.read(raw, PROVENANCE, Provenance)
    result = validation.validate(pd.read_parquet(raw / ROWS), contract)
    page.write_text(report.validation_report(contract, provenance.origin, provenance.rows, result.violations), "utf-8")
    files.save(typed, ROWS, result.frame)
    files.save(typed, PROVENANCE, provenance)
    if result.passed:
        say(f"{provenance.rows} rows keep to contract {contract.name}")
    else:
        refusal = str(validation.broken_contract(contract.name, result.violations))
        (typed / REFUSAL).write_text(refusal, "utf-8")
        say(refusal)
    return len(result.violations)


def prepare(contract_text: str, typed: Path, gold: Path, say: Say = print) -> TrainingData:
    """Keep the columns that a model may see, with label and period of each row (gold)."""
    contract, provenance = contracts.load(contract_text), files.read(typed, PROVENANCE, Provenance)
    if (typed / REFUSAL).exists():
        raise DataError((typed / REFUSAL).read_text("utf-8"))
    dataset = Dataset.prepare(pd.read_parquet(typed / ROWS), contract)
    _refuse_too_few(dataset, contract)
    data = TrainingData(
        origin=provenance.origin,
        source_sha256=provenance.source_sha256,
        fingerprint=dataset.fingerprint(contract),
        rows=len(dataset),
        positives=int(dataset.labels.sum()),
        first_period=str(dataset.periods[0]),
        last_period=str(dataset.periods[-1]),
    )
    files.save(gold, ROWS, dataset.to_frame())
    files.save(gold, DATA, data)
    say(f"{data.rows} rows, {data.positives / data.rows:.1%} positive, {counted(len(contract.inputs), 'input')}")
    return data


def read_gold(gold: Path, contract: Contract) -> Dataset:
    """Read the rows that `prepare` wrote."""
    return Dataset.of_frame(pd.read_parquet(gold / ROWS), contract)


def _lasting(origin: str) -> str:
    """Shorten an origin to what is true on other machines: a local file or log keeps its name without directory."""
    history, log, place = origin.rpartition("decisions:")
    if log and "://" not in place:
        return f"{_lasting(history.removesuffix(' + '))}{' + ' if history else ''}{log}{Path(place).name}"
    kind, layers, place = origin.partition("layers:")
    if layers and not kind and "://" not in place:
        return f"{layers}{Path(place).name}"
    return Path(origin).name if origin and Path(origin).is_file() else origin


def _refuse_too_few(dataset: Dataset, contract: Contract) -> None:
    """Refuse rows that leave too few rows of an outcome to learn from before the first window."""
    first = dataset.labels[: origin(contract, len(dataset)) or len(dataset)]
    fewest, folds = min(int(first.sum()), len(first) - int(first.sum())), contract.evaluation.folds
    if dataset.groups is not None and (number := len(set(dataset.groups))) < folds:
        raise DataError(
            f"contract {contract.name}: expected {folds} different values of {contract.evaluation.group!r} for as many"
            f" folds, got {number}: bring more rows, or leave 'group' out"
        )
    if fewest < folds:
        raise DataError(
            f"contract {contract.name}: expected {folds} rows of each outcome among the first {len(first)} rows, "
            f"got {fewest}: bring more rows"
        )
