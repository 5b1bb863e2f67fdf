"""The pipelines' steps on models, from files to files: train or update, evaluate, gate, package.

Each step is a process of its own, so each function imports only what it needs. To load the libraries of all steps takes
longer than most steps run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from offers import files
from offers.bundle.location import difference_of, open_bundle, open_champion
from offers.bundle.provenance import Origin, Parameters, TrainingData, Update, git_commit, libraries
from offers.contract import contract as contracts
from offers.contract.sections import ModelSettings
from offers.errors import ContractError, GateError
from offers.evaluation import gate as gates
from offers.evaluation.figures import Evaluation
from offers.evaluation.gate import GateVerdict
from offers.settings import Settings
from offers.steps.curves import Curves, curves
from offers.steps.data import DATA, ROWS, read_gold
from offers.wording import Say, counted

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.evaluation.refits import Champion

# Names of the files in the directories that these steps hand on.
PARAMETERS, UPDATE = "parameters.json", "update.json"
EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"


@dataclass(frozen=True)
class Candidate:
    """Directories that the earlier steps wrote: the rows, the model, its figures, and the gate's verdict."""

    gold: Path
    model: Path
    result: Path
    verdict: Path


def train(
    contract_text: str, gold: Path, model: Path, trials: int, seed: int, settings: Settings, say: Say = print
) -> None:
    """Search for settings if there is a budget of trials, then fit and calibrate."""
    from offers.bundle import writing
    from offers.training import learners, stored
    from offers.training.size import Form, form_of

    contract = contracts.load(contract_text)
    rows = stored.StoredRows(gold / ROWS, contract)
    form = Form.WHOLE if trials else form_of(contract, contract.model, len(rows), rows.has_missing)
    model_settings = contract.model
    others: list[ModelSettings] = []
    if form is Form.WHOLE:
        dataset = read_gold(gold, contract)
        if trials:
            from offers.training import search

            model_settings, *others = search.search(contract, dataset, trials, seed, settings.home / "search", say)
        matrix, labels, weights = dataset.encode(contract), dataset.labels, dataset.weights
        fitted = learners.train(contract, model_settings, matrix, labels, seed, weights, dataset.groups)
    else:
        say(f"{counted(len(rows), 'row')}: {form.value}")
        model.mkdir(parents=True, exist_ok=True)
        fitted = stored.train(contract, model_settings, rows, form, model, seed)
    writing.save_model(fitted, model)
    files.save(model, PARAMETERS, Parameters(model=model_settings, seed=seed, trials=trials, others=tuple(others)))
    beside = f"layer: {fitted.layer}" if fitted.layer else f"calibration: {fitted.calibrator}"
    say(f"{counted(model_settings.trees, 'tree')}; {beside}")


def update(
    contract_text: str, gold: Path, parent: str, lag: int, model: Path, settings: Settings, say: Say = print
) -> None:
    """Keep a bundle's trees, and let its layer learn the labels that came since.

    Parameters
    ----------
    parent : path, name or s3:// URI of the bundle
    lag : number of rows that were scored after the newest of these, whose labels are not known yet; below 0 for as many
        as `offers.bundle.update.label_lag` expects

    Raises
    ------
    ContractError
        the contract's inputs are no longer those of the bundle
    DataError
        the rows do not begin with the bundle's, or too few are newer
    """
    from offers.bundle import update as updates
    from offers.bundle import writing

    contract, serving = contracts.load(contract_text), open_bundle(parent, settings)
    if difference := difference_of(serving, contract):
        raise ContractError(
            f"contract {contract.name}: expected the inputs of bundle {serving.name}, but {difference}:"
            " train a new model"
        )
    dataset = read_gold(gold, contract)
    late = updates.label_lag(contract, dataset.periods) if lag < 0 else lag
    fitted, lineage = updates.update(serving, dataset, late)
    writing.save_model(fitted, model)
    files.save(model, PARAMETERS, serving.manifest.parameters)
    files.save(model, UPDATE, lineage)
    say(f"{counted(lineage.labels, 'label')} learnt; the layer is now {fitted.layer}")


def evaluate(
    contract_text: str, gold: Path, model: Path, champion: str, result: Path, settings: Settings, say: Say = print
) -> tuple[Evaluation, Curves]:
    """Estimate quality on rows that the scoring models had not seen.

    Raises
    ------
    GateError
        an updated model is to be compared with another champion than the bundle of its trees
    """
    from offers.bundle import bundle
    from offers.bundle import update as updates
    from offers.evaluation import evaluate as evaluation
    from offers.evaluation.dependence import dependences

    contract, parameters = contracts.load(contract_text), files.read(model, PARAMETERS, Parameters)
    dataset, lineage = read_gold(gold, contract), _lineage(model)
    serving = open_champion(champion, contract, settings) if champion else None
    fitted = bundle.load_model(model)
    if lineage is not None:
        origin = _parent(lineage, serving)
        evaluated, predictions = updates.measure(origin, dataset, parameters.seed)
        evaluated = evaluated.model_copy(update={"changes": updates.changes(origin, fitted, dataset)})
    else:
        rival = champion_of(serving) if serving else None
        evaluated, predictions = evaluation.evaluate(
            dataset, contract, parameters.model, fitted.booster, rival, parameters.seed, say, parameters.others
        )
    effects = tuple(dependences(fitted, dataset.frame, contract, evaluated.columns))
    evaluated = evaluated.model_copy(update={"dependences": effects})
    files.save(result, EVALUATION, evaluated)
    files.save(result, PREDICTIONS, predictions)
    say(f"AUC {evaluated.model.figures.get('auc', 'not measured')}")
    return evaluated, curves(predictions, contract.evaluation.contact_share)


def gate(
    contract_text: str,
    gold: Path,
    model: Path,
    result: Path,
    verdict: Path,
    page: Path,
    settings: Settings,
    say: Say = print,
) -> GateVerdict:
    """Judge the figures by the contract's rules, and write the run's report, whether they pass or not.

    The report tells the end of the ledger at this moment, which later proves that nobody has rewritten it.
    """
    from offers.governance.access import head_now
    from offers.reports import training as report
    from offers.steps import registration

    contract, evaluated = contracts.load(contract_text), files.read(result, EVALUATION, Evaluation)
    decision = gates.decide_update(evaluated, contract) if _lineage(model) else gates.decide(evaluated, contract)
    verdict.write_text(decision.model_dump_json(indent=1) + "\n", "utf-8")
    head = head_now(settings)
    facts = _facts(_origin(gold, model)) | ({"Ledger": head} if head else {})
    predictions = pd.read_parquet(result / PREDICTIONS)
    page.write_text(report.training_report(contract, evaluated, predictions, decision, facts), "utf-8")
    if not decision.passed:
        registration.refuse(verdict, contract.name, settings)
    failures = [rule.rule for rule in decision.rules if rule.passed is False]
    say(f"failed: {'; '.join(failures)}" if failures else f"passed: {counted(len(decision.rules), 'rule')}")
    return decision


def package(
    contract_text: str, candidate: Candidate, directory: Path, publish: str, settings: Settings, say: Say = print
) -> str:
    """Write the bundle, publish it below `publish` (a directory or s3:// URI) where one is named, and register it.

    Returns
    -------
    str
        the bundle's name

    Raises
    ------
    GateError
        the gate did not pass the candidate
    LedgerError
        the ledger does not know the key as a trainer's
    """
    from offers.bundle import bundle, writing
    from offers.reports import training as report
    from offers.steps import registration
    from offers.store import store

    text = contracts.text(contract_text)
    contract, evaluated = contracts.parse(text), files.read(candidate.result, EVALUATION, Evaluation)
    decision = GateVerdict.model_validate_json(candidate.verdict.read_text("utf-8"))
    if not decision.passed:
        raise GateError(
            f"the gate did not pass this candidate of {contract.name}, so it is not packaged: see the report"
        )
    origin = _origin(candidate.gold, candidate.model)
    card = report.model_card(contract, evaluated, decision, _facts(origin))
    fitted, dataset = bundle.load_model(candidate.model), read_gold(candidate.gold, contract)
    path = writing.write(directory, text, fitted, dataset, evaluated, decision, card, origin)
    if publish:
        store.open_store(publish, settings).put_directory(path, path.name)
    registration.register(path, contract.name, settings, say)
    say(f"bundle {path.name}")
    return path.name


def champion_of(bundle: "Bundle") -> "Champion":
    """Turn the model of a bundle into the champion that a challenger is compared with."""
    from offers.evaluation.refits import Champion

    data, parameters = bundle.manifest.data, bundle.manifest.parameters
    return Champion(bundle.name, bundle.model, parameters.model, parameters.seed, data.rows, data.fingerprint)


def _origin(gold: Path, model: Path) -> Origin:
    parameters = files.read(model, PARAMETERS, Parameters)
    return Origin(files.read(gold, DATA, TrainingData), parameters, _lineage(model))


def _lineage(model: Path) -> Update | None:
    """Read the origin of an updated model; None for a trained model."""
    return files.read(model, UPDATE, Update) if (model / UPDATE).exists() else None


def _parent(lineage: Update, champion: "Bundle | None") -> "Bundle":
    if champion is None or champion.name != lineage.parent:
        raise GateError(
            f"expected {lineage.parent} as the champion, whose trees this model has, "
            f"got {champion.name if champion else 'none'}: name that one"
        )
    return champion


def _facts(origin: Origin) -> dict[str, str]:
    data, parameters, lineage = origin.data, origin.parameters, origin.update
    trees = f"those of {lineage.parent}, from the first {lineage.trained_rows} rows" if lineage else "trained anew"
    layer = f"updated by {counted(lineage.labels, 'label')}" if lineage else "as of this training"
    return {
        "trees": trees,
        "layer": layer,
        "source": data.origin,
        "source sha256": data.source_sha256 or "not a file",
        "rows": f"{data.rows}, {data.positives} positive",
        "periods": f"{data.first_period} to {data.last_period}",
        "data fingerprint": data.fingerprint,
        "parameters": str(parameters.model),
        "search trials": str(parameters.trials),
        "seed": str(parameters.seed),
        "libraries": ", ".join(f"{name} {version}" for name, version in libraries(parameters.model.learner).items()),
        "git commit": git_commit(),
    }
