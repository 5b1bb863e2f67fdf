"""The status that each monitoring run leaves in the store. A run that is overdue is an alarm as well."""

from contextlib import suppress
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from pydantic import ValidationError

from offers.errors import StorageError
from offers.monitoring.findings import Monitoring
from offers.record import Record
from offers.store.store import Store
from offers.wording import spoken

_PREFIX, _FINDINGS = "monitoring", ".findings"


class Status(Record):
    """The result of a run. A signal is None if it could not be judged; `report` is the key of the run's page."""

    contract: str
    bundle: str
    as_of: datetime
    since: datetime | None
    until: datetime
    rows: int
    labelled: int
    signals: dict[str, bool | None]
    action: str
    reasons: tuple[str, ...]
    report: str = ""


def write(store: Store, status: Status, page: str, monitoring: Monitoring | None = None) -> Status:
    """Store a status, its page and what was measured, under keys with the moment of the run.

    Raises
    ------
    StorageError
        the store can't be reached, is full, or is read-only
    """
    key = f"{_PREFIX}/{status.contract}/{status.as_of:%Y%m%dT%H%M%S.%fZ}-{status.bundle[-16:]}"
    record = status.model_copy(update={"report": f"{key}.html"})
    store.write_bytes(f"{key}.html", page.encode())
    if monitoring is not None:
        store.write_bytes(f"{key}{_FINDINGS}", monitoring.model_dump_json().encode())
    store.write_bytes(f"{key}.json", (record.model_dump_json(indent=1) + "\n").encode())
    return record


def last(store: Store, contract: str) -> Status | None:
    """Read the newest status of a contract's monitor; None where it has never reported.

    Raises
    ------
    StorageError
        the store can't be reached, or somebody has altered the status
    """
    keys = [key for key in store.keys(f"{_PREFIX}/{contract}/") if key.endswith(".json")]
    if not keys:
        return None
    try:
        return Status.model_validate_json(store.read_bytes(keys[-1]))
    except ValidationError as error:
        raise StorageError(
            f"{store.uri}/{keys[-1]}: expected the status of a monitoring run, got something else "
            f"({error.errors()[0]['msg']}): remove it, or run the monitor again"
        ) from None


def measured(store: Store, contract: str, most: int) -> list[Monitoring]:
    """Read what the newest runs of a contract's monitor measured, at most `most` of them, the oldest first.

    Runs of earlier versions, which kept their page alone, are left out.

    Raises
    ------
    StorageError
        the store can't be reached
    """
    keys = [key for key in store.keys(f"{_PREFIX}/{contract}/") if key.endswith(_FINDINGS)]
    found = []
    for key in keys[-most:]:
        with suppress(ValidationError):
            found.append(Monitoring.model_validate_json(store.read_bytes(key)))
    return found


def overdue(status: Status | None, every: timedelta, now: datetime) -> bool:
    """Whether the last report of a monitor is older than `every`, or missing."""
    return status is None or now - status.as_of > every


def sentence(contract: str, status: Status | None, every: timedelta, now: datetime) -> str:
    """Describe in a sentence when the monitor last reported, what it reported, and whether it is overdue."""
    if status is None:
        return f"The monitor of {contract} has never reported, and should every {spoken(every)}."
    age = spoken(max(now - status.as_of, timedelta(0)))
    late = f", which is more than the {spoken(every)} agreed on" if overdue(status, every, now) else ""
    action = "nothing to do" if status.action == "none" else status.action
    because = f", because {'; '.join(status.reasons)}" if status.reasons else ""
    return f"The monitor of {contract} reported {age} ago{late}: {action}{because}."


def prometheus(contract: str, status: Status | None, every: timedelta, now: datetime) -> str:
    """Write the status for Prometheus; a monitor that has never reported gets a report time of 1970."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *more: str) -> Gauge:
        return Gauge(f"offers_monitor_{name}", text, ["contract", *more], registry=registry)

    moment = status.as_of.timestamp() if status else 0.0
    gauge("last_report_timestamp_seconds", "When the monitor last reported").labels(contract).set(moment)
    late = gauge("overdue", "Whether the monitor has not reported for longer than agreed on")
    late.labels(contract).set(overdue(status, every, now))
    if status is not None:
        action_gauge = gauge("action", "What the last report asks for", "action")
        for action in ("none", "update", "retrain"):
            action_gauge.labels(contract, action).set(status.action == action)
        signals = gauge("signal", "Signals of the last report; one that could not be judged is absent", "signal")
        for name, breached in status.signals.items():
            if breached is not None:
                signals.labels(contract, name).set(breached)
    return generate_latest(registry).decode()
