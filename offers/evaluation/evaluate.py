"""Honest quality: refits through time as production would make them, beside the optimistic random split."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import xgboost as xgb
from fairlearn.metrics import MetricFrame, count, selection_rate
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from offers.contract.contract import Contract
from offers.contract.sections import ModelSettings
from offers.data.dataset import Dataset, origin, windows
from offers.drift.statistics import population_stability_index
from offers.evaluation import metrics
from offers.evaluation.figures import (
    ColumnDrift,
    ColumnPower,
    Comparison,
    Evaluation,
    Fairness,
    Group,
    Scores,
    Segment,
    Window,
)
from offers.evaluation.segments import groups
from offers.model.encoder import Encoder
from offers.model.propensity import PropensityModel
from offers.training.learners import (
    BoostedTrees,
    Learner,
    Logistic,
    calibrate,
    calibration_edges,
    out_of_fold_margins,
    out_of_time_margins,
)

Progress = Callable[[str], None]
Recalibrated = Callable[[np.ndarray], np.ndarray]
"""The champion's propensities on the evaluated rows, to those of a candidate that has its trees."""


@dataclass(frozen=True)
class Champion:
    """The model that serves now: its settings, and the rows that it was trained on."""

    name: str
    model: PropensityModel
    settings: ModelSettings
    seed: int
    rows: int
    fingerprint: str


def rolling_propensity(
    learner: Learner,
    matrix: np.ndarray,
    labels: np.ndarray,
    contract: Contract,
    alignment: int = 0,
    progress: Progress = lambda text: None,
) -> np.ndarray:
    """Propensities as production would have given them, refitting and recalibrating every `refit_every` rows.

    At each refit the learner sees all rows before it, and the calibrator the margins that the refits before
    gave to the newest rows: just what `offers.model.propensity.train` would make of the rows known then.

    Parameters
    ----------
    alignment : rows in [0, refit_every) by which the refits come later; where blocks start changes a pooled
        AUC by 0.02, so quote a mean over several

    Returns
    -------
    ndarray, shape (n_rows - origin,), in (0, 1)
    """
    n_rows, step = len(labels), contract.evaluation.refit_every
    first = origin(contract, n_rows)
    start = first + alignment % step - (step if alignment % step else 0)
    edges = list(range(start, n_rows, step))
    earlier = calibration_edges(start, step, contract.calibration.rows)

    def report(n: int, total: int) -> None:
        progress(f"refit {n} of {total}")

    margin = out_of_time_margins(learner, matrix, labels, earlier + edges, done=report)
    propensity = np.full(n_rows, np.nan)
    for begin, end in zip(edges, [*edges[1:], n_rows], strict=True):
        known = margin[:begin]
        propensity[begin:end] = calibrate(known, labels[:begin], contract.calibration)(margin[begin:end])
    return propensity[first:]


def folded_propensity(
    learner: BoostedTrees | Logistic, matrix: np.ndarray, labels: np.ndarray, contract: Contract, seed: int
) -> np.ndarray:
    """Out-of-fold propensities of a random stratified split; each fold is calibrated on the others."""
    learner = replace(learner, settings=learner.settings.model_copy(update={"newest_rows": None}))
    margin, fold = out_of_fold_margins(learner, matrix, labels, contract.evaluation.folds, seed)
    propensity = np.empty(len(labels))
    for number in range(contract.evaluation.folds):
        here = fold == number
        others = np.where(here, np.nan, margin)
        propensity[here] = calibrate(others, labels, contract.calibration.model_copy(update={"rows": len(labels)}))(
            margin[here]
        )
    return propensity


def evaluate(
    dataset: Dataset,
    contract: Contract,
    settings: ModelSettings,
    booster: xgb.Booster,
    champion: Champion | None = None,
    seed: int = 0,
    progress: Progress = lambda text: None,
    recalibrated: Recalibrated | None = None,
) -> tuple[Evaluation, pd.DataFrame]:
    """Estimate how the model will do on rows to come.

    Parameters
    ----------
    booster : the candidate's own trees, for the share that each column has in them
    recalibrated : where the candidate has the champion's trees and a calibrator of its own

    Returns
    -------
    Evaluation
    DataFrame
        one line per scored row: row, period, window, label, propensity, baseline, and champion where there is one
    """
    matrix, labels, share = dataset.encode(contract), dataset.labels, contract.evaluation.contact_share
    kinds = tuple(Encoder.of(contract).feature_types)
    trees, logistic = BoostedTrees(settings, kinds, seed), Logistic(settings, kinds)
    first = origin(contract, len(labels))
    scored: dict[str, np.ndarray] = {}
    if champion is not None:
        progress(f"champion {champion.name} on the same rows")
        scored["champion"] = champion_propensity(champion, dataset, matrix, contract)
    if recalibrated is not None:
        scored["propensity"] = recalibrated(scored["champion"])
    for name, learner in (("propensity", trees), ("baseline", logistic)):
        if name in scored:
            continue
        if contract.time is None:
            scored[name] = folded_propensity(learner, matrix, labels, contract, seed)
        else:
            told = partial(_told, progress, name)
            scored[name] = rolling_propensity(learner, matrix, labels, contract, progress=told)
    if contract.time is None and recalibrated is None:
        random_split = scored["propensity"]
    else:
        progress("random split, for comparison")
        random_split = folded_propensity(trees, matrix, labels, contract, seed)

    progress("bootstrap intervals")
    measure = partial(metrics.score, share=share, bootstrap=contract.evaluation.bootstrap, seed=seed)
    known, period = labels[first:], dataset.periods[first:]
    predictions = pd.DataFrame(
        {"row": np.arange(first, len(labels)), "period": period, "window": "", "label": known, **scored}
    )
    spans = windows(contract, len(labels))
    for number, span in enumerate(spans, 1):
        predictions.loc[span.start - first : span.stop - first - 1, "window"] = f"w{number}"
    rows = dataset.frame.iloc[first:].reset_index(drop=True)
    evaluation = Evaluation(
        contract=contract.name,
        scheme=_scheme(contract, len(spans)),
        rows=len(labels),
        model=measure(known, scored["propensity"]),
        baseline=measure(known, scored["baseline"]),
        windows=tuple(
            _window(str(name), part, measure, share) for name, part in predictions.groupby("window", sort=False) if name
        ),
        within_period_auc=_rounded(
            metrics.within_periods(known, scored["propensity"], period, contract.evaluation.smallest_segment)
            if contract.time is not None
            else None
        ),
        random_split=metrics.score(labels, random_split, share),
        segments=tuple(_segments(rows, known, scored["propensity"], contract)),
        fairness=tuple(fairness(rows, known, scored["propensity"], contract)),
        drift=tuple(_drift(dataset.frame, first, spans, contract)),
        columns=tuple(_columns(booster, matrix[first:], known, period, contract)),
        champion=_comparison(champion, predictions, contract, seed) if champion is not None else None,
    )
    return evaluation, predictions


def champion_propensity(champion: Champion, dataset: Dataset, matrix: np.ndarray, contract: Contract) -> np.ndarray:
    """Propensities of the champion on the evaluated rows, without letting it profit from rows it was trained on.

    Rows newer than its training data are scored by the champion itself. On rows that it has seen its settings
    are refitted through time like the challenger's; so they are on all rows where its training data is not
    the beginning of this data set.
    """
    labels = dataset.labels
    learner = BoostedTrees(champion.settings, tuple(Encoder.of(contract).feature_types), champion.seed)
    if contract.time is None:
        return folded_propensity(learner, matrix, labels, contract, champion.seed)
    first = origin(contract, len(labels))
    begins_with = Dataset(
        dataset.frame.iloc[: champion.rows], labels[: champion.rows], dataset.periods[: champion.rows]
    )
    seen = champion.rows if begins_with.fingerprint(contract) == champion.fingerprint else len(labels)
    parts = []
    if seen > first:
        rolled = rolling_propensity(learner, matrix, labels, contract)
        parts.append(rolled[: seen - first])
    if seen < len(labels):
        parts.append(champion.model.propensity(dataset.frame.iloc[max(seen, first) :]))
    return np.concatenate(parts)


def _told(progress: Progress, name: str, text: str) -> None:
    progress(f"{'XGBoost' if name == 'propensity' else 'logistic baseline'}: {text}")


def _scheme(contract: Contract, n_windows: int) -> str:
    evaluation = contract.evaluation
    if contract.time is None:
        return f"{evaluation.folds} stratified folds: the contract declares no time order, so drift can't be seen"
    return (
        f"rolling origin: {n_windows} out-of-time windows over the last {1 - evaluation.train_share:.0%} of the rows, "
        f"refitted every {evaluation.refit_every} rows"
    )


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


def fairness(rows: pd.DataFrame, labels: np.ndarray, propensity: np.ndarray, contract: Contract) -> Iterator[Fairness]:
    chosen = metrics.contacted(propensity, contract.evaluation.contact_share)
    for column in contract.protected:
        cut = groups(rows[column.name], column).to_numpy()
        sizes = dict(zip(*np.unique(cut, return_counts=True), strict=True))
        small = tuple(value for value, size in sizes.items() if size < contract.evaluation.smallest_segment)
        large = ~np.isin(cut, small)
        if not large.any():
            yield Fairness(column=column.name, groups=(), left_out=small, selection_ratio=None, recall_difference=None)
            continue
        frame = MetricFrame(
            metrics={
                "rows": count,
                "selection_rate": selection_rate,
                "precision": partial(precision_score, zero_division=0.0),
                "recall": partial(recall_score, zero_division=0.0),
            },
            y_true=labels[large],
            y_pred=chosen[large].astype(int),
            sensitive_features=cut[large],
        )
        yield Fairness(
            column=column.name,
            groups=tuple(
                Group(
                    value=value,
                    rows=int(line["rows"]),
                    positive_rate=round(float(labels[cut == value].mean()), 6),
                    mean_propensity=round(float(propensity[cut == value].mean()), 6),
                    selection_rate=round(float(line["selection_rate"]), 6),
                    precision=round(float(line["precision"]), 6),
                    recall=round(float(line["recall"]), 6),
                )
                for value, line in frame.by_group.iterrows()
            ),
            left_out=small,
            selection_ratio=_rounded(float(frame.ratio()["selection_rate"])),
            recall_difference=_rounded(float(frame.difference()["recall"])),
        )


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
    booster: xgb.Booster, matrix: np.ndarray, labels: np.ndarray, periods: np.ndarray, contract: Contract
) -> Iterator[ColumnPower]:
    gain = {name: float(np.sum(value)) for name, value in booster.get_score(importance_type="total_gain").items()}
    total = sum(gain.values()) or 1.0
    for j, column in enumerate(contract.inputs):
        values = _rated(matrix[:, j], labels) if column.type == "category" else np.nan_to_num(matrix[:, j], nan=-1.0)
        auc = metrics.within_periods(labels, values, periods, contract.evaluation.smallest_segment, roc_auc_score)
        yield ColumnPower(
            column=column.name,
            gain_share=round(gain.get(f"f{j}", 0.0) / total, 6),
            auc=round(max(auc, 1 - auc), 6) if auc is not None else 0.5,
        )


def _rated(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each category's code as its acceptance rate, so that a rank can be taken."""
    places = np.nan_to_num(codes, nan=codes[~np.isnan(codes)].max(initial=0) + 1).astype(int)
    return np.asarray((np.bincount(places, labels) / np.maximum(np.bincount(places), 1))[places])


def _comparison(champion: Champion, predictions: pd.DataFrame, contract: Contract, seed: int) -> Comparison:
    labels, ours, theirs = (predictions[name].to_numpy() for name in ("label", "propensity", "champion"))
    share, draws = contract.evaluation.contact_share, contract.evaluation.bootstrap
    return Comparison(
        champion=champion.name,
        scores=metrics.score(labels, theirs, share, draws, seed),
        differences=metrics.differences(labels, ours, theirs, share, draws, seed),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 6)
