"""Estimates quality honestly, by refits through time as in production, and by a random split for comparison."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from offers.contract.contract import Contract
from offers.contract.sections import LEARNER_NAMES, ModelSettings
from offers.data.dataset import Dataset, origin, windows
from offers.drift.statistics import population_stability_index
from offers.evaluation import metrics
from offers.evaluation.fairness import fairness, rounded
from offers.evaluation.figures import (
    Candidate,
    ColumnDrift,
    ColumnPower,
    Comparison,
    Evaluation,
    Scores,
    Segment,
    Window,
)
from offers.evaluation.refits import (
    Champion,
    Progress,
    champion_propensity,
    folded_propensity,
    rolling_propensity,
)
from offers.evaluation.segments import groups
from offers.model.boosters import Booster, library_of
from offers.model.encoder import Encoder
from offers.training.learners import BoostedTrees, Logistic
from offers.training.size import BASELINE_ROWS, SPLIT_ROWS, affordable, fits_at_once, spread
from offers.wording import counted


def evaluate(
    dataset: Dataset,
    contract: Contract,
    settings: ModelSettings,
    booster: Booster,
    champion: Champion | None = None,
    seed: int = 0,
    progress: Progress = lambda text: None,
    others: Sequence[ModelSettings] = (),
) -> tuple[Evaluation, pd.DataFrame]:
    """Estimate the model's quality on future rows.

    Parameters
    ----------
    booster : the candidate's own trees, from which each column's share of the gain is taken
    others : settings of other learners, which are measured on the same rows

    Returns
    -------
    Evaluation
    DataFrame
        one line per scored row: row, period, window, label, propensity, baseline, the other learners by name, and
        champion where there is one
    """
    sized = affordable(contract, len(dataset))
    matrix, labels, share = dataset.encode(contract), dataset.labels, contract.evaluation.contact_share
    trees, logistic = BoostedTrees.of(contract, settings, seed), Logistic(settings, tuple(_kinds(contract)))
    propensities: dict[str, np.ndarray] = {}
    if champion is not None:
        progress(f"champion {champion.name} on the same rows")
        propensities["champion"] = champion_propensity(champion, dataset, matrix, sized)
    learners: dict[str, BoostedTrees | Logistic] = {"propensity": trees, "baseline": logistic}
    learners |= {other.learner: BoostedTrees.of(contract, other, seed) for other in others}
    for name, learner in learners.items():
        propensities[name] = _propensity(name, learner, dataset, matrix, sized, seed, progress)
    if contract.time is None:
        random = [metrics.score(labels, propensities[name], share) for name in ("propensity", "baseline")]
    else:
        progress("random split, for comparison")
        random = [_randomly(learner, dataset, matrix, contract, seed) for learner in (trees, logistic)]

    progress("bootstrap intervals")
    first = origin(contract, len(labels))
    rows = {"row": np.arange(first, len(labels)), "period": dataset.periods[first:], "window": ""}
    predictions = pd.DataFrame({**rows, "label": labels[first:], **propensities})
    figures = _figures(dataset, contract, booster, matrix, predictions, random, champion, seed)
    candidates = tuple(_candidates((settings, *others), predictions, contract, seed)) if others else ()
    return figures.model_copy(update={"candidates": candidates}), predictions


def _propensity(
    name: str,
    learner: BoostedTrees | Logistic,
    dataset: Dataset,
    matrix: np.ndarray,
    contract: Contract,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    labels, weights = dataset.labels, dataset.weights
    if contract.time is None:
        return folded_propensity(learner, matrix, labels, contract, seed, weights, dataset.groups)
    title = LEARNER_NAMES[learner.settings.learner] if isinstance(learner, BoostedTrees) else "logistic baseline"
    # The baseline gets no layer, so that the layer's gain counts for the model.
    here = contract.without_layer if name == "baseline" else contract
    workers = fits_at_once(contract, learner.settings, len(labels)) if isinstance(learner, BoostedTrees) else 2
    told = partial(_told, progress, title)
    return rolling_propensity(learner, matrix, labels, here, progress=told, weights=weights, workers=workers)


def _randomly(
    learner: BoostedTrees | Logistic, dataset: Dataset, matrix: np.ndarray, contract: Contract, seed: int
) -> Scores:
    """Measure a learner on a random split, which sees rows of all times."""
    some = spread(len(dataset), SPLIT_ROWS)
    labels, (weights, groups) = (
        dataset.labels[some],
        (None if column is None else column[some] for column in (dataset.weights, dataset.groups)),
    )
    propensity = folded_propensity(learner, matrix[some], labels, contract, seed, weights, groups)
    return metrics.score(labels, propensity, contract.evaluation.contact_share)


def _figures(
    dataset: Dataset,
    contract: Contract,
    booster: Booster,
    matrix: np.ndarray,
    predictions: pd.DataFrame,
    random_split: Sequence[Scores],
    champion: Champion | None,
    seed: int,
) -> Evaluation:
    """Measure finished predictions, and fill in the window of each of their rows.

    `random_split` holds the scores of model and baseline on the random split.
    """
    share, labels, period = contract.evaluation.contact_share, predictions["label"].to_numpy(), predictions["period"]
    measure = partial(metrics.score, share=share, bootstrap=contract.evaluation.bootstrap, seed=seed)
    first = len(dataset) - len(predictions)
    propensity = predictions["propensity"].to_numpy()
    spans = windows(contract, len(dataset))
    for number, span in enumerate(spans, 1):
        predictions.loc[span.start - first : span.stop - first - 1, "window"] = f"w{number}"
    rows = dataset.frame.iloc[first:].reset_index(drop=True)
    return Evaluation(
        contract=contract.name,
        scheme=_scheme(contract, len(spans), len(dataset)),
        rows=len(dataset),
        model=measure(labels, propensity),
        baseline=measure(labels, predictions["baseline"].to_numpy()),
        windows=tuple(
            _window(str(name), part, measure, share) for name, part in predictions.groupby("window", sort=False) if name
        ),
        within_period_auc=rounded(
            metrics.within_periods(labels, propensity, period.to_numpy(), contract.evaluation.smallest_segment)
            if contract.time is not None
            else None
        ),
        within_period_chance=rounded(
            metrics.chance(labels, period.to_numpy(), contract.evaluation.smallest_segment)
            if contract.time is not None
            else None
        ),
        random_split=random_split[0],
        random_baseline=random_split[1],
        segments=tuple(_segments(rows, labels, propensity, contract)),
        fairness=tuple(fairness(rows, labels, propensity, contract)),
        drift=tuple(_drift(dataset.frame, first, spans, contract)),
        columns=tuple(_columns(booster, matrix[first:], labels, period.to_numpy(), contract)),
        champion=_comparison(champion, predictions, contract, seed) if champion is not None else None,
    )


def _told(progress: Progress, title: str, text: str) -> None:
    progress(f"{title}: {text}")


def _kinds(contract: Contract) -> list[str]:
    return Encoder.of(contract).feature_types


def _candidates(
    tried: Sequence[ModelSettings], predictions: pd.DataFrame, contract: Contract, seed: int
) -> Iterator[Candidate]:
    share, draws = contract.evaluation.contact_share, contract.evaluation.bootstrap
    for place, settings in enumerate(tried):
        name = settings.learner if place else "propensity"
        windows_scores = [
            metrics.score(part["label"].to_numpy(), part[name].to_numpy(), share)
            for window, part in predictions.groupby("window", sort=False)
            if window
        ]
        aucs = (scores.figures.get("auc") for scores in windows_scores)
        yield Candidate(
            learner=settings.learner,
            settings=str(settings),
            scores=metrics.score(predictions["label"].to_numpy(), predictions[name].to_numpy(), share, draws, seed),
            windows=tuple(auc.value if auc else None for auc in aucs),
        )


def _scheme(contract: Contract, n_windows: int, n_rows: int) -> str:
    evaluation, refit_every = contract.evaluation, affordable(contract, n_rows).evaluation.refit_every
    if contract.time is None:
        kept = f", each {evaluation.group!r} in one" if evaluation.group else ""
        return f"{evaluation.folds} stratified folds{kept}: the contract declares no time order, so drift can't be seen"
    spread = refit_every != evaluation.refit_every
    reason = f" in place of {evaluation.refit_every}, because each refit sees so many" if spread else ""
    refits = len(range(origin(contract, n_rows), n_rows, refit_every))
    scheme = (
        f"rolling origin: {n_windows} out-of-time windows over the last {1 - evaluation.train_share:.0%} of the rows, "
        f"{counted(refits, 'refit')}, one every {refit_every} rows{reason}"
    )
    if n_rows > BASELINE_ROWS:
        scheme += f"; a fit of the baseline sees at most {BASELINE_ROWS} rows, evenly spread"
    return scheme + (f", and the random split {SPLIT_ROWS}" if n_rows > SPLIT_ROWS else "")


def _window(name: str, part: pd.DataFrame, measure: Callable[[np.ndarray, np.ndarray], Scores], share: float) -> Window:
    labels = part["label"].to_numpy()
    return Window(
        name=name,
        first_period=part["period"].iloc[0],
        last_period=part["period"].iloc[-1],
        model=measure(labels, part["propensity"].to_numpy()),
        baseline=metrics.score(labels, part["baseline"].to_numpy(), share),
    )


def _segments(rows: pd.DataFrame, labels: np.ndarray, propensity: np.ndarray, contract: Contract) -> Iterator[Segment]:
    for name in contract.segments:
        cut = groups(rows[name], contract[name]).to_numpy()
        for value in np.unique(cut):
            here = cut == value
            if here.sum() >= contract.evaluation.smallest_segment:
                scores = metrics.score(labels[here], propensity[here], contract.evaluation.contact_share)
                yield Segment(column=name, value=value, scores=scores)


def _drift(frame: pd.DataFrame, first: int, spans: Sequence[slice], contract: Contract) -> Iterator[ColumnDrift]:
    for column in contract.inputs if spans else ():
        values = frame[column.name]
        psi = [population_stability_index(values.iloc[:first], values.iloc[span]) for span in spans]
        yield ColumnDrift(
            column=column.name,
            expected=column.drift == "expected",
            psi=tuple(round(value, 4) for value in psi),
        )


def _columns(
    booster: Booster, matrix: np.ndarray, labels: np.ndarray, periods: np.ndarray, contract: Contract
) -> Iterator[ColumnPower]:
    gain = library_of(booster).gain(booster, len(contract.inputs))
    total = float(gain.sum()) or 1.0
    for j, column in enumerate(contract.inputs):
        values = _rated(matrix[:, j], labels) if column.type == "category" else np.nan_to_num(matrix[:, j], nan=-1.0)
        auc = metrics.within_periods(labels, values, periods, contract.evaluation.smallest_segment, roc_auc_score)
        yield ColumnPower(
            column=column.name,
            gain_share=round(float(gain[j]) / total, 6),
            auc=round(max(auc, 1 - auc), 6) if auc is not None else None,
        )


def _rated(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Replace each category's code by its acceptance rate, so that categories can be ranked."""
    places = np.nan_to_num(codes, nan=codes[~np.isnan(codes)].max(initial=0) + 1).astype(int)
    return np.asarray((np.bincount(places, labels) / np.maximum(np.bincount(places), 1))[places])


def _comparison(champion: Champion, predictions: pd.DataFrame, contract: Contract, seed: int) -> Comparison:
    labels, ours, theirs = (predictions[name].to_numpy() for name in ("label", "propensity", "champion"))
    share, draws = contract.evaluation.contact_share, contract.evaluation.bootstrap
    newest = predictions.tail(contract.challenge.rows)
    return Comparison(
        champion=champion.name,
        newest=metrics.duel(
            newest["label"].to_numpy(),
            newest["period"].to_numpy(),
            newest["propensity"].to_numpy(),
            newest["champion"].to_numpy(),
            draws,
            seed,
        )
        if contract.time is not None
        else None,
        scores=metrics.score(labels, theirs, share, draws, seed),
        differences=metrics.differences(labels, ours, theirs, share, draws, seed),
    )
