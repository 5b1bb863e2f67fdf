"""A monitor that falls silent is noticed, and a look back at an old period does not pass for a fresh report."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from offers.errors import StorageError
from offers.monitoring import heartbeat
from offers.monitoring.heartbeat import Status
from offers.settings import Settings
from offers.store.store import Store, open_store

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), Settings())


def status(age: timedelta = timedelta(hours=2), action: str = "none", reasons: tuple[str, ...] = ()) -> Status:
    return Status(
        contract="shop",
        bundle="shop-0123456789abcdef",
        as_of=NOW - age,
        since=None,
        until=NOW - age,
        rows=100,
        labelled=20,
        signals={"data": action != "none", "score": False, "performance": None},
        action=action,
        reasons=reasons,
    )


def metrics(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("offers_monitor_"), sample.labels.get("action", sample.labels.get("signal", ""))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_newest_status_counts_whenever_it_was_written(store: Store) -> None:
    assert heartbeat.last(store, "shop") is None
    newest = heartbeat.write(store, status(), "<html>new</html>")
    heartbeat.write(store, status(age=40 * DAY), "<html>looked back</html>")
    assert heartbeat.last(store, "shop") == newest
    assert heartbeat.last(store, "sho") is None
    assert store.read_bytes(newest.report) == b"<html>new</html>"
    assert newest.report.startswith("monitoring/shop/20240601T100000")


def test_a_status_that_others_have_changed_is_refused(store: Store) -> None:
    key = heartbeat.write(store, status(), "").report.replace(".html", ".json")
    store.write_bytes(key, b'{"contract": "shop"}')
    with pytest.raises(StorageError, match="expected the status of a monitoring run, got something else"):
        heartbeat.last(store, "shop")


def test_a_report_is_due_within_its_period() -> None:
    assert not heartbeat.overdue(status(DAY), DAY, NOW)
    assert heartbeat.overdue(status(DAY + timedelta(seconds=1)), DAY, NOW)
    assert heartbeat.overdue(None, DAY, NOW)


def test_what_a_person_reads() -> None:
    assert heartbeat.sentence("shop", status(), DAY, NOW) == "The monitor of shop reported 2 hours ago: nothing to do."
    late = status(3 * DAY, "retrain", ("spending has moved", "propensities have moved"))
    assert heartbeat.sentence("shop", late, DAY, NOW) == (
        "The monitor of shop reported 3 days ago, which is more than the 1 day agreed on: "
        "retrain, because spending has moved; propensities have moved."
    )
    assert heartbeat.sentence("shop", None, 12 * timedelta(hours=1), NOW) == (
        "The monitor of shop has never reported, and should every 12 hours."
    )


def test_what_prometheus_reads() -> None:
    found = metrics(heartbeat.prometheus("shop", status(action="retrain"), DAY, NOW))
    assert found == {
        ("last_report_timestamp_seconds", ""): (NOW - timedelta(hours=2)).timestamp(),
        ("overdue", ""): 0.0,
        ("action", "none"): 0.0,
        ("action", "update"): 0.0,
        ("action", "retrain"): 1.0,
        ("signal", "data"): 1.0,
        ("signal", "score"): 0.0,
    }
    never = metrics(heartbeat.prometheus("shop", None, DAY, NOW))
    assert never == {("last_report_timestamp_seconds", ""): 0.0, ("overdue", ""): 1.0}
