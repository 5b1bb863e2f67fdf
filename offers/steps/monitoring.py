"""The monitoring pipeline's steps, file to file: collect, inspect, judge, and ask for a new model.

Each step is a process of its own, so each function imports what it alone needs.
"""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from offers import files
from offers.bundle.provenance import git_commit, libraries
from offers.contract.contract import Contract
from offers.decisions.period import Period
from offers.decisions.scored import SCORE, SCORED_AT
from offers.evaluation.figures import Figure
from offers.monitoring import heartbeat
from offers.monitoring.findings import Findings, Labels, Monitoring, Quality, Record, Volume
from offers.settings import Settings
from offers.steps.data import Say

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.decisions.period import Period
    from offers.monitoring.inspection import Decisions

# Names of the files in the directories that these steps hand on.
ROWS, COLLECTED, FINDINGS, VERDICT = "rows.parquet", "collected.json", "findings.json", "verdict.json"
_SOURCE = "/offers/monitoring"
_KNOWN, _MARKS = "_outcome", ("mature", "recent", "inside")


class Collected(Record):
    """What is known of the decisions before anything is compared."""

    since: datetime | None
    until: datetime
    as_of: datetime
    quality: Quality
    volume: Volume
    labels: Labels


def which_bundle(bundle: str, scored: str, period: "Period", settings: Settings) -> str:
    """Where the bundle to judge is: as it is named, or the one that served, where a place for bundles is named.

    Parameters
    ----------
    bundle : path, name or s3:// URI of a bundle; or a directory or s3:// URI of many, of which the one that scored
        the period's newest row is taken
    scored : where the scored rows are

    Raises
    ------
    SourceError, DataError
        the rows do not tell which one: see `offers.decisions.scored.served`
    """
    from offers.bundle.location import holds_bundles
    from offers.decisions import scored as decisions

    if not holds_bundles(bundle):
        return bundle
    return f"{bundle.rstrip('/')}/{decisions.served(scored, period, settings)}"


def collect(
    bundle: str,
    scored: str,
    outcomes: str,
    since: str,
    until: str,
    as_of: str,
    decisions: Path,
    settings: Settings,
    say: Say = print,
) -> Collected:
    """Read scored rows and outcomes, join them, and count what is wrong with them.

    Parameters
    ----------
    outcomes : where they are; empty for none
    since, until, as_of : see `offers.decisions.period.Period.parse`

    Raises
    ------
    SourceError, DataError
        files are missing, not Parquet, of other columns or types, or rows of another bundle
    """
    from offers.bundle.location import open_bundle
    from offers.decisions import scored as reading
    from offers.monitoring import inspection

    made, period = open_bundle(bundle, settings), Period.parse(since, until, as_of)
    # Without outcomes nothing waits for a training's cool-down: decisions that are mature already need no count.
    needed = None if outcomes else _labels_from(period, made.contract)
    rows = reading.read_scored(scored, made.contract, settings, needed)
    window = timedelta(days=made.contract.target.matures_after_days)
    told = reading.read_outcomes(outcomes, settings, window) if outcomes else reading.no_outcomes()
    joined = inspection.join(inspection.of_bundle(rows, made, period), told.frame, made.contract, period)
    found = Collected(
        since=period.since,
        until=period.until,
        as_of=period.as_of,
        quality=inspection.quality(rows, told, joined, made, period),
        volume=inspection.volume(rows, period),
        labels=inspection.labels(joined, made.contract),
    )
    files.save(decisions, ROWS, _to_frame(joined))
    files.save(decisions, COLLECTED, found)
    labels = found.labels
    say(f"{found.quality.rows} decisions in the period; {labels.labelled} of {labels.mature} mature labels are known")
    return found


def inspect(bundle: str, decisions: Path, findings: Path, settings: Settings, say: Say = print) -> Findings:
    """Hold windows of rows against the bundle's reference, and propensities against mature labels."""
    from offers.bundle.location import open_bundle
    from offers.monitoring import inspection

    made, known = open_bundle(bundle, settings), files.read(decisions, COLLECTED, Collected)
    rows = _of_frame(pd.read_parquet(decisions / ROWS))
    found = Findings(
        contract=made.contract.name,
        bundle=made.name,
        **dict(known),
        drift=inspection.drift(rows, made),
        performance=inspection.performance(rows, made),
        promise=inspection.promise(rows, made.contract),
        since_training=len(rows.rows),
    )
    files.save(findings, FINDINGS, found)
    live = found.performance.scores.figures if found.performance else {}
    gate = made.evaluation.model.figures
    say(f"{len(found.drift.windows)} windows of {found.drift.size} rows; AUC {_auc(live)}, at the gate {_auc(gate)}")
    return found


def figures(found: Findings) -> dict[str, float]:
    """What is worth a line in a list of runs; figures that could not be measured are absent."""
    known = {"rows": found.quality.rows, "mature labels": found.labels.labelled, "windows": len(found.drift.windows)}
    scores = found.performance.scores.figures if found.performance else {}
    return {**known, **{name: figure.value for name, figure in scores.items()}}


def judge(
    bundle: str,
    decisions: Path,
    findings: Path,
    verdict: Path,
    page: Path,
    store: str,
    settings: Settings,
    say: Say = print,
) -> Monitoring:
    """Decide by two of three signals, write the report, and leave both in the store under monitoring/<contract>/."""
    from offers.bundle.location import open_bundle
    from offers.reports.monitoring import monitoring_report
    from offers.store.store import open_store

    made, found = open_bundle(bundle, settings), files.read(findings, FINDINGS, Findings)
    judged = decide(found, made.contract, made.model.layer is not None)
    rows = _of_frame(pd.read_parquet(decisions / ROWS))
    html = monitoring_report(made.contract, judged, made.evaluation, _learnt(rows), _facts(made, found))
    page.write_text(html, "utf-8")
    files.save(verdict, VERDICT, judged)
    heartbeat.write(open_store(store, settings), _status(judged), html)
    say(f"{judged.action}: {'; '.join(judged.reasons)}" if judged.reasons else judged.action)
    return judged


def decide(found: Findings, contract: Contract, layered: bool = False) -> Monitoring:
    """Weigh the three signals; a drift of the propensities' mean counts as one of the propensities.

    Parameters
    ----------
    layered : whether the bundle's model has a layer
    """
    from offers.monitoring import two_of_three as verdict

    drift = found.drift.signals
    score = None if drift["score"] is None else bool(drift["score"] or drift["rate"])
    signals = verdict.Signals(
        data=drift["data"],
        score=score,
        performance=found.promise.breached,
        ranks_hold=found.promise.ranks_hold,
        labels=found.labels.since_training,
        since_training=found.since_training,
        unlearnt=found.labels.since_training if layered else None,
    )
    decided = verdict.decide(signals, contract.retraining)
    return Monitoring(
        findings=found,
        signals={"data": signals.data, "score": signals.score, "performance": signals.performance},
        action=decided.action,
        reasons=(*decided.reasons, *found.drift.reasons, *found.promise.reasons),
    )


def request_retraining(verdict: Path, trigger: str, say: Say = print) -> None:
    """Ask the service at `trigger` for a new model; where there is none, say that nobody was asked.

    Raises
    ------
    ServiceError
        the service can't be reached, or did not take the request
    """
    if not trigger:
        say("no trigger is named, so nobody was asked for a new model")
        return
    from offers.retraining import alarm, signature

    judged = verdict_of(verdict)
    found = judged.findings
    data = {
        "bundle": found.bundle,
        "action": judged.action,
        "signals": judged.signals,
        "reasons": list(judged.reasons),
        "until": found.until.isoformat(),
    }
    identity = f"{found.bundle}@{found.as_of.isoformat()}"
    key = signature.key_of(os.environ.get(signature.VARIABLE, ""))
    decision = alarm.send(trigger, _SOURCE, identity, found.as_of, data, key)
    say(f"{'started' if decision.get('started') else 'not started'}: {decision.get('reason')}")


def verdict_of(directory: Path) -> Monitoring:
    """The verdict that `judge` has left."""
    judged: Monitoring = files.read(directory, VERDICT, Monitoring)
    return judged


def _labels_from(period: "Period", contract: Contract) -> datetime | None:
    """When the oldest decisions were scored whose labels mature in the period."""
    return period.since and period.since - timedelta(days=contract.target.matures_after_days)


def _learnt(decisions: "Decisions") -> pd.DataFrame:
    """Period, label and propensity of the decisions whose label is mature and known."""
    rows = decisions.rows[decisions.judged]
    months = rows[SCORED_AT].dt.strftime("%Y-%m")
    known = decisions.outcome[decisions.judged].astype(np.int8)
    return pd.DataFrame({"period": months, "label": known, "propensity": rows[SCORE]}).reset_index(drop=True)


def _status(judged: Monitoring) -> heartbeat.Status:
    found = judged.findings
    return heartbeat.Status(
        contract=found.contract,
        bundle=found.bundle,
        as_of=found.as_of,
        since=found.since,
        until=found.until,
        rows=found.quality.rows,
        labelled=found.labels.labelled,
        signals=judged.signals,
        action=judged.action,
        reasons=judged.reasons,
    )


def _facts(bundle: "Bundle", found: Findings) -> dict[str, str]:
    data = bundle.manifest.data
    return {
        "bundle": bundle.name,
        "trained on": f"{data.rows} rows, {data.first_period} to {data.last_period}, from {data.origin}",
        "evaluated by": bundle.evaluation.scheme,
        "decisions of this bundle that were read": str(found.since_training),
        "libraries": ", ".join(f"{name} {version}" for name, version in libraries().items()),
        "git commit": git_commit(),
    }


def _auc(figures: Mapping[str, Figure]) -> str:
    return str(figures["auc"]) if "auc" in figures else "not measured"


def _to_frame(decisions: "Decisions") -> pd.DataFrame:
    marks = {f"_{name}": getattr(decisions, name) for name in _MARKS}
    return decisions.rows.assign(**{_KNOWN: decisions.outcome}, **marks)


def _of_frame(frame: pd.DataFrame) -> "Decisions":
    from offers.monitoring.inspection import Decisions

    outcome = frame.pop(_KNOWN).to_numpy(dtype=float)
    marks = {name: frame.pop(f"_{name}").to_numpy(dtype=bool) for name in _MARKS}
    return Decisions(rows=frame, outcome=outcome, **marks)
