"""The monitoring pipeline's steps, from files to files: collect, inspect, judge, and ask for a new model.

Each step is a process of its own, so each function imports only what it needs.
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
from offers.monitoring.findings import Findings, Labels, Monitoring, RowQuality, Volume
from offers.record import Record
from offers.settings import Settings
from offers.wording import Say, counted

if TYPE_CHECKING:
    from offers.bundle.bundle import Bundle
    from offers.decisions.period import Period
    from offers.monitoring.inspection import Decisions

# Names of the files in the directories that these steps hand on.
ROWS, COLLECTED, FINDINGS, VERDICT = "rows.parquet", "collected.json", "findings.json", "verdict.json"
_SOURCE = "/offers/monitoring"
_KNOWN, _MARKS = "_outcome", ("mature", "recent", "inside")


class Collected(Record):
    """The facts about the decisions before they are compared with the bundle."""

    since: datetime | None
    until: datetime
    as_of: datetime
    quality: RowQuality
    volume: Volume
    labels: Labels
    selection: str = ""


def which_bundle(bundle: str, scored: str, period: "Period", settings: Settings) -> str:
    """Find the bundle to judge: the named one, or the one that served, where a place with many bundles is named.

    Parameters
    ----------
    bundle : path, name or s3:// URI of a bundle; or a directory or s3:// URI of many, of which the one that scored
        the period's newest row is taken
    scored : location of the scored rows

    Raises
    ------
    SourceError, DataError
        the rows do not show which one it is; see `offers.decisions.scored.served`
    """
    from offers.bundle.location import holds_bundles
    from offers.decisions import scored as decisions

    if not holds_bundles(bundle):
        return bundle
    return f"{bundle.rstrip('/')}/{decisions.served(scored, period, settings)}"


def collect(
    bundle_uri: str,
    scored: str,
    outcomes: str,
    moments: tuple[str, str, str],
    decisions: Path,
    settings: Settings,
    say: Say = print,
) -> Collected:
    """Read scored rows and outcomes, join them, and count their faults.

    Parameters
    ----------
    outcomes : location of the outcomes; empty for none
    moments : since, until and as_of, as `offers.decisions.period.Period.parse` takes them

    Raises
    ------
    SourceError, DataError
        files are missing, are not Parquet, or have other columns or types; or the rows are of another bundle
    """
    from offers.bundle.location import open_bundle
    from offers.decisions import scored as reading
    from offers.monitoring import inspection
    from offers.monitoring.selection import selection_of

    bundle, period = open_bundle(bundle_uri, settings), Period.parse(*moments)
    # Only a training's cool-down needs the number of all earlier decisions. Without outcomes nothing waits for it.
    start = None if outcomes else _labels_from(period, bundle.contract)
    rows = reading.read_scored(scored, bundle.contract, settings, start)
    window = timedelta(days=bundle.contract.target.matures_after_days)
    outcome_table = reading.read_outcomes(outcomes, settings, window) if outcomes else reading.no_outcomes()
    cases = inspection.join(inspection.of_bundle(rows, bundle, period), outcome_table.frame, bundle.contract, period)
    result = Collected(
        since=period.since,
        until=period.until,
        as_of=period.as_of,
        quality=inspection.quality(rows, outcome_table, cases, bundle, period),
        volume=inspection.volume(rows, period),
        labels=inspection.labels(cases, bundle.contract),
        selection=selection_of(scored, bundle, period, settings),
    )
    files.save(decisions, ROWS, _to_frame(cases))
    files.save(decisions, COLLECTED, result)
    labels, in_period = result.labels, counted(result.quality.rows, "decision")
    say(f"{in_period} in the period; labels known: {labels.labelled} of {labels.mature} mature")
    return result


def inspect(bundle_uri: str, decisions: Path, findings: Path, settings: Settings, say: Say = print) -> Findings:
    """Compare windows of rows with the bundle's reference, and propensities with mature labels."""
    from offers.bundle.location import open_bundle
    from offers.monitoring import inspection

    bundle, collected = open_bundle(bundle_uri, settings), files.read(decisions, COLLECTED, Collected)
    rows = _of_frame(pd.read_parquet(decisions / ROWS))
    result = Findings(
        contract=bundle.contract.name,
        bundle=bundle.name,
        **dict(collected),
        drift=inspection.drift(rows, bundle, collected.selection),
        performance=inspection.performance(rows, bundle),
        promise=inspection.promise(rows, bundle.contract),
        since_training=len(rows.rows),
    )
    files.save(findings, FINDINGS, result)
    live = result.performance.scores.figures if result.performance else {}
    gate = bundle.evaluation.model.figures
    windows = counted(len(result.drift.windows), "window")
    say(f"{windows} of {result.drift.size} rows; AUC {_auc(live)}, at the gate {_auc(gate)}")
    return result


def figures(findings: Findings) -> dict[str, float]:
    """Choose the figures for a list of runs; figures that could not be measured are absent."""
    figures_by_name = {
        "rows": findings.quality.rows,
        "mature labels": findings.labels.labelled,
        "windows": len(findings.drift.windows),
    }
    scores = findings.performance.scores.figures if findings.performance else {}
    return {**figures_by_name, **{name: figure.value for name, figure in scores.items()}}


def judge(
    bundle_uri: str,
    decisions: Path,
    findings: Path,
    verdict: Path,
    page: Path,
    store: str,
    settings: Settings,
    say: Say = print,
) -> Monitoring:
    """Decide by two of three signals, write the report, and store status and report under monitoring/<contract>/."""
    from offers.bundle.location import open_bundle
    from offers.reports.monitoring import monitoring_report
    from offers.store.store import open_store

    bundle, result = open_bundle(bundle_uri, settings), files.read(findings, FINDINGS, Findings)
    monitoring = decide(result, bundle.contract, bundle.model.layer is not None, bundle.manifest.later_rows)
    rows = _of_frame(pd.read_parquet(decisions / ROWS))
    html = monitoring_report(bundle.contract, monitoring, bundle.evaluation, _learnt(rows), _facts(bundle, result))
    page.write_text(html, "utf-8")
    files.save(verdict, VERDICT, monitoring)
    heartbeat.write(open_store(store, settings), _status(monitoring), html, monitoring)
    say(f"{monitoring.action}: {'; '.join(monitoring.reasons)}" if monitoring.reasons else monitoring.action)
    return monitoring


def decide(findings: Findings, contract: Contract, layered: bool = False, learnt: int = 0) -> Monitoring:
    """Weigh the three signals; a drift of the mean propensity counts as score drift.

    Parameters
    ----------
    layered, learnt : whether the model has a layer, and labels that updates have taught it since its training
    """
    from offers.monitoring import two_of_three as verdict

    drift = findings.drift.signals
    score = None if drift["score"] is None else bool(drift["score"] or drift["rate"])
    signals = verdict.Signals(
        data=drift["data"],
        score=score,
        performance=findings.promise.breached,
        ranks_hold=findings.promise.ranks_hold,
        labels=findings.labels.since_training + learnt,
        since_training=findings.since_training + learnt,
        unlearnt=findings.labels.since_training if layered else None,
    )
    decision = verdict.decide(signals, contract.retraining)
    return Monitoring(
        findings=findings,
        signals={"data": signals.data, "score": signals.score, "performance": signals.performance},
        action=decision.action,
        reasons=(*decision.reasons, *findings.drift.reasons, *findings.promise.reasons),
    )


def request_retraining(verdict: Path, trigger: str, say: Say = print) -> None:
    """Ask the service at `trigger` for a new model; where none is named, say that nobody was asked.

    Raises
    ------
    ServiceError
        the service can't be reached, or did not accept the request
    """
    if not trigger:
        say("no trigger is named, so nobody was asked for a new model")
        return
    from offers.retraining import alarm, signature

    monitoring = verdict_of(verdict)
    findings = monitoring.findings
    data = {
        "bundle": findings.bundle,
        "action": monitoring.action,
        "signals": monitoring.signals,
        "reasons": list(monitoring.reasons),
        "until": findings.until.isoformat(),
    }
    identity = f"{findings.bundle}@{findings.as_of.isoformat()}"
    key = signature.key_of(os.environ.get(signature.VARIABLE, ""))
    decision = alarm.send(trigger, _SOURCE, identity, findings.as_of, data, key)
    say(f"{'started' if decision.get('started') else 'not started'}: {decision.get('reason')}")


def verdict_of(directory: Path) -> Monitoring:
    """Read the verdict that `judge` wrote."""
    monitoring: Monitoring = files.read(directory, VERDICT, Monitoring)
    return monitoring


def _labels_from(period: "Period", contract: Contract) -> datetime | None:
    """Find the moment from which decisions were scored whose labels mature in the period."""
    return period.since and period.since - timedelta(days=contract.target.matures_after_days)


def _learnt(decisions: "Decisions") -> pd.DataFrame:
    """Tabulate period, label and propensity of the decisions whose label matured since the period began."""
    rows = decisions.rows[decisions.judged]
    months = rows[SCORED_AT].dt.strftime("%Y-%m")
    outcomes = decisions.outcome[decisions.judged].astype(np.int8)
    return pd.DataFrame({"period": months, "label": outcomes, "propensity": rows[SCORE]}).reset_index(drop=True)


def _status(monitoring: Monitoring) -> heartbeat.Status:
    findings = monitoring.findings
    return heartbeat.Status(
        contract=findings.contract,
        bundle=findings.bundle,
        as_of=findings.as_of,
        since=findings.since,
        until=findings.until,
        rows=findings.quality.rows,
        labelled=findings.labels.labelled,
        signals=monitoring.signals,
        action=monitoring.action,
        reasons=monitoring.reasons,
    )


def _facts(bundle: "Bundle", findings: Findings) -> dict[str, str]:
    data = bundle.manifest.data
    return {
        "bundle": bundle.name,
        "trained on": f"{data.rows} rows, {data.first_period} to {data.last_period}, from {data.origin}",
        "evaluated by": bundle.evaluation.scheme,
        "decisions of this bundle that were read": str(findings.since_training),
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
