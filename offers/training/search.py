"""Searches hyperparameters by Optuna's TPE on rows that the evaluation does not score; seeded and resumable."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from scipy.special import expit
from sklearn.metrics import log_loss

from offers.contract.contract import Contract
from offers.contract.sections import LEARNER_NAMES, Learner, ModelSettings
from offers.data.dataset import Dataset, origin
from offers.training.learners import BoostedTrees, out_of_fold_margins, out_of_time_margins

_BLOCKS = 4
_SHARE_SCORED = 0.25
_STARTUP_TRIALS = 8


def search(
    contract: Contract,
    dataset: Dataset,
    trials: int,
    seed: int,
    directory: Path,
    say: Callable[[str], None],
) -> tuple[ModelSettings, ...]:
    """Find the settings with the lowest log-loss; the first trials are the contract's own settings with each learner.

    With a time order the search only uses rows before the first out-of-time window, in four successive blocks. So the
    gate's figures are out of time for the search as well. Without a time order the search uses all rows in folds of its
    own, which makes the gate's figures slightly too good. The log-loss counts each row once, whatever its weight.

    Parameters
    ----------
    trials : budget of trials, at least 1. Finished trials of an interrupted run with the same data, contract and seed
        are reused, and the result is the same as without the interruption.
    directory : directory of the journal of trials

    Returns
    -------
    tuple of ModelSettings
        the best settings of each learner that was tried, the best learner first
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dataset = dataset.first(origin(contract, len(dataset)) or len(dataset))
    objective = _objective(contract, dataset, seed)
    directory.mkdir(parents=True, exist_ok=True)
    journal = directory / f"{_key(contract, dataset, seed)}.log"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(storage=storage, study_name=contract.name, load_if_exists=True)
    if not study.trials:
        for learner in contract.model.learners:
            study.enqueue_trial(_point(contract.model, learner))
    while (number := len(_finished(study))) < trials:
        # Each trial has its own sampler, so an interruption of the search does not change later trials.
        study.sampler = optuna.samplers.TPESampler(seed=seed * 10_007 + number, n_startup_trials=_STARTUP_TRIALS)
        study.optimize(lambda trial: objective(_suggest(trial, contract.model)), n_trials=1)
        trial = _finished(study)[-1]
        name = f"{LEARNER_NAMES[trial.params['learner']]}, " if contract.model.alternatives else ""
        say(f"trial {number + 1} of {trials}: {name}log-loss {trial.value:.5f}, best {study.best_value:.5f}")
    return _best(contract.model, _finished(study)[:trials])


def _best(settings: ModelSettings, trials: Sequence[optuna.trial.FrozenTrial]) -> tuple[ModelSettings, ...]:
    """Take each learner's best trial, the best learner first."""
    best: dict[str, ModelSettings] = {}
    for trial in sorted(trials, key=lambda trial: (trial.value, trial.number)):
        found = settings.model_copy(update=trial.params)
        best.setdefault(found.learner, found)
    return tuple(best.values())


def _objective(contract: Contract, dataset: Dataset, seed: int) -> Callable[[ModelSettings], float]:
    matrix, labels, weights, groups = dataset.encode(contract), dataset.labels, dataset.weights, dataset.groups

    def loss(settings: ModelSettings) -> float:
        learner = BoostedTrees.of(contract, settings, seed)
        if contract.time is None:
            margin, _ = out_of_fold_margins(learner, matrix, labels, 3, seed + 1, weights=weights, groups=groups)
        else:
            edges = np.linspace(len(labels) * (1 - _SHARE_SCORED), len(labels), _BLOCKS + 1).astype(int)[:-1]
            margin = out_of_time_margins(learner, matrix, labels, edges.tolist(), weights=weights)
        mask = ~np.isnan(margin)
        return float(log_loss(labels[mask], expit(margin[mask]), labels=[0, 1]))

    return loss


def _suggest(trial: optuna.Trial, settings: ModelSettings) -> ModelSettings:
    """Draw settings; each range is widened to include the contract's own value."""

    def whole(name: str, low: int, high: int) -> int:
        own = getattr(settings, name)
        return trial.suggest_int(name, min(low, own), max(high, own))

    def real(name: str, low: float, high: float, log: bool = True) -> float:
        own = getattr(settings, name)
        # A log scale can't include zero, so a penalty that the contract switches off stays off.
        return own if log and not own else trial.suggest_float(name, min(low, own), max(high, own), log=log)

    # A search of one learner has no such parameter, so that its trials do not depend on the others.
    choice = {"learner": trial.suggest_categorical("learner", settings.learners)} if settings.alternatives else {}
    suggestion = choice | {
        "trees": whole("trees", 50, 800),
        "depth": whole("depth", 2, 8),
        "learning_rate": real("learning_rate", 0.01, 0.3),
        "row_share": real("row_share", 0.4, 1.0, log=False),
        "column_share": real("column_share", 0.1, 1.0, log=False),
        "min_child_weight": real("min_child_weight", 0.5, 50.0),
        "l2": real("l2", 0.1, 50.0),
    }
    return settings.model_copy(update=suggestion)


def _point(settings: ModelSettings, learner: Learner) -> dict[str, Any]:
    own = settings.model_dump(exclude={"newest_rows", "alternatives", "learner"})
    point = {name: value for name, value in own.items() if value}
    return point | ({"learner": learner} if settings.alternatives else {})


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def _key(contract: Contract, dataset: Dataset, seed: int) -> str:
    groups = [] if dataset.groups is None else [hashlib.sha256(dataset.groups.tobytes()).hexdigest()]
    identity = [contract.model_dump(mode="json"), dataset.fingerprint(contract), seed, *groups]
    return f"{contract.name}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"
