"""The steps of the training pipeline, file to file: what each component calls, and what runs without Kubeflow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import confusion_matrix, roc_curve

from offers import bundle, evaluation, metrics, report, search, sources, store, validation
from offers import contract as contracts
from offers import gate as gates
from offers.bundle import Bundle, Parameters, TrainingData
from offers.contract import Contract
from offers.dataset import Dataset
from offers.errors import DataError, GateError
from offers.evaluation import Evaluation
from offers.gate import Verdict
from offers.model import train as fit
from offers.settings import Settings

Say = Callable[[str], None]
Record = TypeVar("Record", bound=BaseModel)
_ROC_POINTS = 200

# Names of files in the directories that the steps hand on.
ROWS, PROVENANCE, REFUSAL = "rows.parquet", "provenance.json", "refusal.txt"
DATA, PARAMETERS = "data.json", "parameters.json"
EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"


class Provenance(BaseModel):
    """Where raw rows came from; travels beside them."""

    model_config = ConfigDict(frozen=True)

    origin: str
    source_sha256: str | None
    rows: int


@dataclass(frozen=True)
class Curves:
    """Points of the ROC curve, and the confusion matrix at the operating point (rows: actual no, yes)."""

    false_positive: list[float]
    true_positive: list[float]
    thresholds: list[float]
    confusion: list[list[int]]


def ingest(contract: str, source: str, raw: Path, settings: Settings, say: Say = print) -> Provenance:
    """Fetch the rows as they are (bronze)."""
    found = sources.ingest(contracts.load(contract), settings, source)
    provenance = Provenance(origin=found.origin, source_sha256=found.sha256, rows=len(found.frame))
    _store(raw, ROWS, found.frame)
    _store(raw, PROVENANCE, provenance)
    say(f"{provenance.rows} rows from {provenance.origin}")
    return provenance


def validate(contract: str, raw: Path, typed: Path, page: Path, say: Say = print) -> int:
    """Type and check the rows (silver), and write the page that lists what is wrong with them.

    Rows that break the contract are stored with the refusal beside them, and `prepare` stops the run: a step
    that fails keeps no artifact on a cluster, and this page is what its reader needs.

    Returns
    -------
    int
        number of rules that are broken
    """
    known, provenance = contracts.load(contract), _read(raw, PROVENANCE, Provenance)
    checked = validation.validate(pd.read_parquet(raw / ROWS), known)
    page.write_text(
        report.validation_report(known, provenance.origin, provenance.rows, checked.violations), "utf-8"
    )
    _store(typed, ROWS, checked.frame)
    _store(typed, PROVENANCE, provenance)
    if checked.passed:
        say(f"{provenance.rows} rows keep to contract {known.name}")
    else:
        refusal = str(validation.refuse(known.name, provenance.rows, checked.violations))
        (typed / REFUSAL).write_text(refusal, "utf-8")
        say(refusal)
    return len(checked.violations)


def prepare(contract: str, typed: Path, gold: Path, say: Say = print) -> TrainingData:
    """Keep what a model may see, with label and period of each row (gold)."""
    known, provenance = contracts.load(contract), _read(typed, PROVENANCE, Provenance)
    if (typed / REFUSAL).exists():
        raise DataError((typed / REFUSAL).read_text("utf-8"))
    dataset = Dataset.prepare(pd.read_parquet(typed / ROWS), known)
    _refuse_too_few(dataset, known)
    data = TrainingData(
        origin=provenance.origin,
        source_sha256=provenance.source_sha256,
        fingerprint=dataset.fingerprint(known),
        rows=len(dataset),
        positives=int(dataset.labels.sum()),
        first_period=str(dataset.periods[0]),
        last_period=str(dataset.periods[-1]),
    )
    _store(gold, ROWS, dataset.to_frame())
    _store(gold, DATA, data)
    say(f"{data.rows} rows, {data.positives / data.rows:.1%} positive, {len(known.inputs)} inputs")
    return data


def train(
    contract: str, gold: Path, model: Path, trials: int, seed: int, settings: Settings, say: Say = print
) -> None:
    """Search for settings where there is a budget of trials, then fit and calibrate."""
    known = contracts.load(contract)
    dataset = _dataset(gold, known)
    matrix, chosen = dataset.encode(known), known.model
    if trials:
        chosen = search.search(known, matrix, dataset.labels, trials, seed, settings.home / "search", say)
    fitted = fit(known, chosen, matrix, dataset.labels, seed)
    bundle.save_model(fitted, model)
    _store(model, PARAMETERS, Parameters(model=chosen, seed=seed, trials=trials))
    calibrator = fitted.calibrator
    say(
        f"{chosen.trees} trees, calibration slope {calibrator.slope:.3f}, intercept {calibrator.intercept:+.3f}"
    )


def evaluate(
    contract: str, gold: Path, model: Path, champion: str, result: Path, settings: Settings, say: Say = print
) -> tuple[Evaluation, Curves]:
    """Estimate quality on rows that the scoring models had not seen."""
    known, parameters = contracts.load(contract), _read(model, PARAMETERS, Parameters)
    dataset = _dataset(gold, known)
    rival = open_bundle(champion, settings).champion if champion else None
    booster = bundle.load_model(model).booster
    found, scored = evaluation.evaluate(
        dataset, known, parameters.model, booster, rival, parameters.seed, say
    )
    _store(result, EVALUATION, found)
    _store(result, PREDICTIONS, scored)
    say(f"AUC {found.model.figures.get('auc', 'not measured')}")
    return found, _curves(scored, known.evaluation.contact_share)


def gate(
    contract: str, gold: Path, model: Path, result: Path, verdict: Path, page: Path, say: Say = print
) -> Verdict:
    """Hold the figures against the contract's rules, and write the run's report, whether passed or not."""
    known, found = contracts.load(contract), _read(result, EVALUATION, Evaluation)
    decided = gates.decide(found, known)
    verdict.write_text(decided.model_dump_json(indent=1) + "\n", "utf-8")
    facts = _facts(_read(gold, DATA, TrainingData), _read(model, PARAMETERS, Parameters))
    scored = pd.read_parquet(result / PREDICTIONS)
    page.write_text(report.training_report(known, found, scored, decided, facts), "utf-8")
    failed = [rule.rule for rule in decided.rules if rule.passed is False]
    say(f"failed: {'; '.join(failed)}" if failed else f"passed: {len(decided.rules)} rules")
    return decided


def package(
    contract: str,
    gold: Path,
    model: Path,
    result: Path,
    verdict: Path,
    directory: Path,
    publish: str,
    settings: Settings,
    say: Say = print,
) -> str:
    """Write the bundle, and publish it below `publish` (a directory or s3:// URI) where one is named.

    Returns
    -------
    str
        the bundle's name
    """
    text = contracts.text(contract)
    known, found = contracts.parse(text), _read(result, EVALUATION, Evaluation)
    decided = Verdict.model_validate_json(verdict.read_text("utf-8"))
    if not decided.passed:
        raise GateError(
            f"the gate did not pass this candidate of {known.name}, so it is not packaged: see the report"
        )
    data, parameters = _read(gold, DATA, TrainingData), _read(model, PARAMETERS, Parameters)
    card = report.model_card(known, found, decided, _facts(data, parameters))
    fitted, dataset = bundle.load_model(model), _dataset(gold, known)
    path = bundle.write(directory, text, fitted, dataset, found, decided, card, data, parameters)
    if publish:
        store.open_store(publish, settings).put_directory(path, path.name)
    say(f"bundle {path.name}")
    return path.name


def open_bundle(where: str, settings: Settings) -> Bundle:
    """Load a bundle by path, by name in the local store, or from s3://…/<name>."""
    if where.startswith("s3://"):
        prefix, _, name = where.rstrip("/").rpartition("/")
        local = settings.home / "fetched" / name
        if not local.is_dir():
            store.open_store(prefix, settings).get_directory(name, local)
        return bundle.load(local, expected=name)
    path = Path(where)
    if not path.exists() and (settings.home / "bundles" / where).is_dir():
        path = settings.home / "bundles" / where
    return bundle.load(path)


def _facts(data: TrainingData, parameters: Parameters) -> dict[str, str]:
    return {
        "source": data.origin,
        "source sha256": data.source_sha256 or "not a file",
        "rows": f"{data.rows}, {data.positives} positive",
        "periods": f"{data.first_period} to {data.last_period}",
        "data fingerprint": data.fingerprint,
        "parameters": ", ".join(f"{name} {value}" for name, value in parameters.model.model_dump().items()),
        "search trials": str(parameters.trials),
        "seed": str(parameters.seed),
        "libraries": ", ".join(f"{name} {version}" for name, version in bundle.libraries().items()),
        "git commit": bundle.git_commit(),
    }


def _curves(scored: pd.DataFrame, share: float) -> Curves:
    labels, propensity = scored["label"].to_numpy(), scored["propensity"].to_numpy()
    false_positive, true_positive, thresholds = roc_curve(labels, propensity)
    kept = np.unique(np.linspace(0, len(thresholds) - 1, _ROC_POINTS).astype(int))
    chosen = metrics.contacted(propensity, share)
    return Curves(
        false_positive[kept].tolist(),
        true_positive[kept].tolist(),
        np.minimum(thresholds[kept], 1.0).tolist(),
        confusion_matrix(labels, chosen).tolist(),
    )


def _refuse_too_few(dataset: Dataset, contract: Contract) -> None:
    """Refuse rows that leave nothing to learn from before the first window."""
    first = dataset.labels[: evaluation.origin(contract, len(dataset)) or len(dataset)]
    fewest, wanted = min(int(first.sum()), len(first) - int(first.sum())), contract.evaluation.folds
    if fewest < wanted:
        raise DataError(
            f"contract {contract.name}: expected {wanted} rows of each outcome among the first {len(first)} rows, "
            f"got {fewest}: bring more rows"
        )


def _dataset(gold: Path, contract: Contract) -> Dataset:
    return Dataset.of_frame(pd.read_parquet(gold / ROWS), contract)


def _read(directory: Path, name: str, kind: type[Record]) -> Record:
    return kind.model_validate_json((directory / name).read_text("utf-8"))


def _store(directory: Path, name: str, content: BaseModel | pd.DataFrame) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(directory / name, index=False)
        else:
            (directory / name).write_text(content.model_dump_json(indent=1) + "\n", "utf-8")
    except OSError as error:
        raise bundle.storage_error(directory, error) from error
