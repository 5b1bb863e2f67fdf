"""What each monitoring run leaves in the store, and whether the next one is overdue: silence is an alarm as well."""

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from pydantic import ValidationError

from offers.errors import StorageError
from offers.record import Record
from offers.store.store import Store
from offers.wording import spoken

_PREFIX = "monitoring"


class Status(Record):
    """The result of a run: signals are None if they could not be judged, `report` is the key of its page."""

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


def write(store: Store, status: Status, page: str) -> Status:
    """Store a status and the page that it stands on, each under a key of its own moment.

    Raises
    ------
    StorageError
        the store is away, full or read-only
    """
    key = f"{_PREFIX}/{status.contract}/{status.as_of:%Y%m%dT%H%M%S.%fZ}-{status.bundle[-16:]}"
    record = status.model_copy(update={"report": f"{key}.html"})
    store.write_bytes(f"{key}.html", page.encode())
    store.write_bytes(f"{key}.json", (record.model_dump_json(indent=1) + "\n").encode())
    return record


def last(store: Store, contract: str) -> Status | None:
    """The newest status of a contract's monitor, None where it has never reported.

    Raises
    ------
    StorageError
        the store is away, or the status was changed by other hands
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


def overdue(status: Status | None, every: timedelta, now: datetime) -> bool:
    """Whether a monitor that should report once in `every` has not."""
    return status is None or now - status.as_of > every


def sentence(contract: str, status: Status | None, every: timedelta, now: datetime) -> str:
    """Say when the monitor last reported and what, and whether that is too long ago."""
    if status is None:
        return f"The monitor of {contract} has never reported, and should every {spoken(every)}."
    age = spoken(max(now - status.as_of, timedelta(0)))
    late = f", which is more than the {spoken(every)} agreed on" if overdue(status, every, now) else ""
    action = "nothing to do" if status.action == "none" else status.action
    because = f", because {'; '.join(status.reasons)}" if status.reasons else ""
    return f"The monitor of {contract} reported {age} ago{late}: {action}{because}."


def prometheus(contract: str, status: Status | None, every: timedelta, now: datetime) -> str:
    """Write the same for Prometheus; a monitor that has never reported did so in 1970."""
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
