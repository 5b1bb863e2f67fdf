"""What was watched: windows of the drift sidecar or of monitoring runs, and what was decided because of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pyarrow as pa

from offers.errors import ServiceError
from offers.governance.access import member_key
from offers.governance.ledger import Ledger
from offers.http_client import peer
from offers.monitoring import heartbeat
from offers.monitoring.findings import Monitoring
from offers.retraining.journal import Decision, Journal, Outcome
from offers.settings import Settings
from offers.store.directory import DirectoryStore
from serving.app.kept import newest
from serving.app.place import ledger
from serving.drift.state import Damaged, StateFile

RUNS = 60
"""Monitoring runs that are looked at, the newest."""
SECONDS, REASONS = 5.0, 3


@dataclass(frozen=True)
class Window:
    """A window of rows, compared with the bundle's reference.

    Attributes
    ----------
    moment : when it was judged, or its last row scored
    distances : by column, in [0, 1]: KS of a number, Cramér's V of a category; None where nothing can be compared
    score : KS distance of the propensities, in [0, 1]
    rate : mean propensity, in [0, 1]
    importance : NDCG of the columns' order of importance, in [0, 1]; 1 is the reference's order
    """

    moment: datetime
    distances: Mapping[str, float | None]
    score: float
    rate: float
    importance: float | None


@dataclass(frozen=True)
class Event:
    """Something that happened to a model: an alarm, a verdict, a retraining or its end."""

    moment: datetime
    kind: str
    what: str
    why: str = ""


@dataclass(frozen=True)
class Watched:
    """One watch over one bundle.

    Attributes
    ----------
    lists : by column, whether its drift is an alarm (watched), or natural (expected), or the bank's own doing (ours)
    reference : mean propensity of the reference, in [0, 1]
    """

    title: str
    bundle: str
    windows: tuple[Window, ...]
    alarms: tuple[Event, ...]
    reasons: tuple[str, ...]
    lists: Mapping[str, str]
    reference: float


def live(url: str) -> Watched | None:
    """Ask the sidecar that runs; None before its first window.

    Raises
    ------
    ServiceError
        it does not answer, or answers as another version does
    """
    try:
        answer = peer("the drift sidecar", f"{url}/report?format=json", SECONDS).ask()
        report = answer.json()
        if answer.status_code != 200 or not report["latest"]:
            return None
        return _of_record("the sidecar that runs", report, report["alarms"], report["reasons"])
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ServiceError(f"no drift sidecar answers at {url}: {reason}; what others saw stands below") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"{url}/report: another version of the sidecar answers ({error!r}); restart it") from None


def earlier(settings: Settings) -> Iterator[Watched]:
    """Yield the watches of sidecars that ran here, the newest first; a state that can't be read is left out."""
    places = ("serve/drift*", "*/serve/drift*", "*/governed/drift*")
    for file in newest(file for place in places for file in settings.home.glob(f"{place}/state.parquet")):
        try:
            state = StateFile(file.parent, pa.schema([])).load()
        except Damaged:
            continue
        if state is None or state[1].latest is None:
            continue
        record = state[1]
        assert record.latest is not None
        content = {"bundle": record.bundle, "history": record.history, "latest": record.latest}
        alarms = [alarm.to_dict() for alarm in record.alarms]
        reasons = [reason for texts in record.streak["alarms"].values() for reason in texts]
        where = file.parent.relative_to(settings.home)
        try:
            yield _of_record(f"sidecar of {where}, until {_day(record.last_window)}", content, alarms, reasons)
        except KeyError:
            continue


def monitored(runs: Sequence[Monitoring]) -> Iterator[Watched]:
    """Yield what monitoring runs saw of each bundle, the bundle of the newest run first."""
    by_bundle: dict[str, list[Monitoring]] = {}
    for run in reversed(runs):
        by_bundle.setdefault(run.findings.bundle, []).insert(0, run)
    for bundle, own in by_bundle.items():
        windows = {window.last: window for run in own for window in run.findings.drift.windows}
        if not windows:
            continue
        reports = [windows[moment].report for moment in sorted(windows)]
        yield Watched(
            f"monitoring runs of {bundle}",
            bundle,
            tuple(_of_report(moment, report) for moment, report in zip(sorted(windows), reports, strict=True)),
            (),
            own[-1].reasons,
            _lists(reports[-1]),
            reports[-1]["score"]["rate"]["reference"],
        )


def runs_of(settings: Settings, contract: str) -> list[Monitoring]:
    """Read the newest monitoring runs of a contract, of this machine and beside the ledger, the oldest first.

    Those of demonstrations below the home are among them.
    """
    homes = [settings.home.resolve(), *(path.parent for path in newest(settings.home.resolve().glob("*/monitoring")))]
    stores = {store.uri: store for store in (*map(DirectoryStore, homes), ledger(settings).store)}
    runs = [run for store in stores.values() for run in heartbeat.measured(store, contract, RUNS)]
    return sorted(runs, key=lambda run: run.findings.until)[-RUNS:]


def verdicts(runs: Sequence[Monitoring]) -> Iterator[Event]:
    """Tell what each monitoring run asked for, and why."""
    for run in runs:
        signals = [name for name, alarm in run.signals.items() if alarm]
        action = "nothing to do" if run.quiet else "look" if run.action == "none" else run.action
        what = f"{action}; {', '.join(signals) or 'no signal'} breached"
        yield Event(run.findings.until, "verdict", what, brief(run.reasons))


def retrainings(settings: Settings, contract: str) -> Iterator[Event]:
    """Tell what the ledger, and those of demonstrations below the home, say of a contract's retraining."""
    homes = [DirectoryStore(path.parent) for path in newest(settings.home.glob("*/ledger"))]
    for one in (ledger(settings), *map(Ledger, homes)):
        for entry in Journal(one, lambda: member_key(settings), contract).entries():
            if isinstance(entry, Decision):
                what = f"{entry.run} begins" if entry.started else "no run"
                reasons = entry.request.evidence.get("reasons", ())
                why = brief((f"{entry.request.cause}: {entry.reason}", *map(str, reasons)))
                yield Event(entry.at, "retraining" if entry.started else "request", what, why)
            elif isinstance(entry, Outcome):
                bundle = entry.bundle.rstrip("/").rpartition("/")[2]
                what = f"bundle {bundle}" if bundle else "failed" if not entry.succeeded else "refused by the gate"
                yield Event(entry.at, "end of a run", what, entry.note)


def brief(reasons: Sequence[str]) -> str:
    """Join the first reasons, and count the others."""
    rest = len(reasons) - REASONS
    return "; ".join((*reasons[:REASONS], *([f"and {rest} more"] if rest > 0 else [])))


def _of_record(
    title: str, content: Mapping[str, Any], alarms: Sequence[Mapping[str, Any]], reasons: Sequence[str]
) -> Watched:
    windows = tuple(
        Window(_moment(line["time"]), line["distances"], line["score_ks"], line["rate"], line["attribution"])
        for line in content["history"]
    )
    events = [
        Event(
            _moment(one["time"]),
            "alarm",
            ", ".join(name for name, breached in one["signals"].items() if breached),
            brief(one["reasons"]),
        )
        for one in alarms
    ]
    reference = content["latest"]["score"]["rate"]["reference"]
    return Watched(
        title, content["bundle"], windows, tuple(events), tuple(reasons), _lists(content["latest"]), reference
    )


def _lists(report: Mapping[str, Any]) -> dict[str, str]:
    return {column["name"]: column["list"] for column in report["columns"]}


def _of_report(moment: datetime, report: Mapping[str, Any]) -> Window:
    distances = {
        column["name"]: column["cramers_v"] if column["ks"] is None else column["ks"] for column in report["columns"]
    }
    return Window(moment, distances, report["score"]["ks"], report["score"]["rate"]["rate"], report["attribution"])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _day(seconds: float | None) -> str:
    return "its start" if seconds is None else f"{_moment(seconds):%Y-%m-%d %H:%M} UTC"
