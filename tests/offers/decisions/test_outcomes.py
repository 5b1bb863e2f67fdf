from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from offers.decisions.outcome import checked
from offers.decisions.outcomes import label, load, read
from offers.decisions.records import OUTCOMES, QUARANTINE
from offers.errors import DataError, SourceError
from offers.settings import Settings
from offers.store.delta import DeltaTables

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GOOD = {"decision_id": "a", "kind": "accepted", "observed_at": "2024-03-01T10:00:00Z"}


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables.at(str(tmp_path / "tables"), Settings())


def decided(*ids: str) -> pd.DataFrame:
    moments = pd.Series([NOON] * len(ids), dtype="datetime64[us, UTC]")
    return pd.DataFrame({"decision_id": list(ids), "decided_at": moments, "offer_id": ["phone"] * len(ids)})


def told(*outcomes: tuple[str, str, timedelta], offer: str | None = None, delay: timedelta = HOUR) -> pd.DataFrame:
    """Outcomes by decision, kind and time after the decision; each is received `delay` after it is observed."""
    frame = pd.DataFrame(
        {
            "decision_id": [decision for decision, _, _ in outcomes],
            "offer_id": [offer] * len(outcomes),
            "kind": [kind for _, kind, _ in outcomes],
            "observed_at": pd.Series([NOON + after for *_, after in outcomes], dtype="datetime64[us, UTC]"),
        }
    )
    frame["received_at"] = frame["observed_at"] + delay
    return frame.sort_values("observed_at", kind="stable", ignore_index=True)


def outcome(frame: pd.DataFrame, as_of: timedelta = 60 * DAY, ids: str = "abcd") -> list[float]:
    return label(decided(*ids), frame, NOON + as_of, MONTH).outcome.tolist()


def test_a_label_is_what_was_told_or_silence_for_the_whole_window() -> None:
    frame = told(("a", "accepted", DAY), ("b", "declined", DAY), ("c", "clicked", DAY))
    assert outcome(frame) == [1, 0, 0, 0]
    np.testing.assert_array_equal(outcome(frame, as_of=2 * DAY), [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(outcome(frame, as_of=DAY - HOUR), [np.nan] * 4)
    # Observed, but not here yet.
    np.testing.assert_array_equal(outcome(frame, as_of=DAY), [np.nan] * 4)


def test_each_odd_outcome_has_its_treatment() -> None:
    labels = label(
        decided("a", "b", "c", "d", "e"),
        told(
            ("a", "accepted", DAY),
            ("a", "accepted", 2 * DAY),
            ("b", "accepted", DAY),
            ("b", "declined", 3 * DAY),
            ("c", "accepted", DAY),
            ("c", "declined", DAY),
            ("d", "accepted", -HOUR),
            ("e", "accepted", 31 * DAY),
            ("nobody", "accepted", DAY),
        ),
        NOON + 60 * DAY,
        MONTH,
    )
    np.testing.assert_array_equal(labels.outcome, [1, 0, np.nan, 0, 0])
    assert (labels.duplicate, labels.contradictory, labels.early, labels.late) == (1, 3, 1, 1)
    assert (labels.orphan, labels.foreign) == (1, 0)


def test_clocks_may_differ_by_minutes() -> None:
    assert outcome(told(("a", "accepted", timedelta(minutes=-4))), ids="a") == [1]
    assert outcome(told(("a", "accepted", timedelta(minutes=-6))), ids="a") == [0]


def test_only_the_offer_in_first_place_is_labelled() -> None:
    assert outcome(told(("a", "accepted", DAY), offer="phone"), ids="a") == [1]
    labels = label(decided("a"), told(("a", "accepted", DAY), offer="web"), NOON + 60 * DAY, MONTH)
    assert (labels.outcome.tolist(), labels.foreign) == ([0], 1)


def test_an_offer_was_seen_where_somebody_says_so() -> None:
    labels = label(decided("a", "b", "c"), told(("a", "presented", HOUR), ("b", "clicked", HOUR)), NOON + DAY, MONTH)
    assert labels.presented.tolist() == [True, True, False]


def test_later_outcomes_change_nothing_earlier() -> None:
    """Whatever is observed or received after a moment, in whatever order, labels as of that moment stay."""
    generator, ids = np.random.default_rng(3), [str(k) for k in range(200)]
    drawn = [
        (ids[generator.integers(200)], str(generator.choice(["accepted", "declined", "clicked"])), float(hours) * HOUR)
        for hours in generator.uniform(0, 700, 600)
    ]
    frame = told(*drawn)
    as_of = NOON + 300 * HOUR
    before = label(decided(*ids), frame, as_of, MONTH).outcome
    later = frame["received_at"] > as_of
    assert later.sum() > 200
    shuffled = frame.copy()
    mixed = frame[later].sample(frac=1, random_state=1)
    shuffled.loc[later, ["decision_id", "kind"]] = mixed[["decision_id", "kind"]].to_numpy()
    np.testing.assert_array_equal(label(decided(*ids), shuffled, as_of, MONTH).outcome, before)
    np.testing.assert_array_equal(label(decided(*ids), frame[~later], as_of, MONTH).outcome, before)


def test_a_file_is_loaded_once_and_what_is_wrong_is_quarantined(tables: DeltaTables, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text(
        "decision_id,kind,observed_at,offer_id,why\n"
        "a,accepted,2024-03-01T10:00:00Z,phone,\n"
        "b,declined,2024-03-01 11:30,,\n"
        "c,bought,2024-03-01T10:00:00Z,,\n"
        ",accepted,2024-03-01T10:00:00Z,,\n"
        "d,accepted,tomorrow,,\n"
        "e,accepted,2999-01-01T00:00:00Z,,\n"
        "f,overridden,2024-03-01T10:00:00Z,,\n"
        "g,overridden,2024-03-01T12:00:00+02:00,,the customer asked for another\n"
    )
    loaded = load(path, tables)
    assert (loaded.outcomes, loaded.quarantined, loaded.again) == (3, 5, False)
    again = load(path, tables)
    assert (again.outcomes, again.again) == (3, True)
    frame = read(tables)
    assert frame["decision_id"].tolist() == ["a", "g", "b"]
    moments = ["2024-03-01T10:00Z", "2024-03-01T10:00Z", "2024-03-01T11:30Z"]
    assert frame["observed_at"].tolist() == list(map(pd.Timestamp, moments))
    reasons = [row["reason"] for row in tables.open(QUARANTINE).to_pyarrow_table().to_pylist()]
    assert len(reasons) == 5
    assert "field 'kind': expected presented, clicked, accepted, declined, overridden, got 'bought'" in reasons
    assert tables.open(OUTCOMES).to_pyarrow_table().num_rows == 3


def test_parquet_with_timestamps_is_loaded_too(tables: DeltaTables, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    moment = pd.Timestamp("2024-03-01T10:00Z")
    pd.DataFrame({"decision_id": ["a"], "kind": ["accepted"], "observed_at": [moment]}).to_parquet(path)
    assert load(path, tables).outcomes == 1
    assert read(tables)["observed_at"].tolist() == [moment]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("decision_id,kind", "missing: observed_at"),
        ("decision_id,kind,observed_at,customer", "unknown: customer"),
        ("decision_id,kind,kind,observed_at", "twice: kind"),
    ],
)
def test_another_header_is_refused(header: str, said: str, tables: DeltaTables, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text(header + "\n" + ",".join("x" * (header.count(",") + 1)) + "\n")
    with pytest.raises(DataError, match=said):
        load(path, tables)
    assert not tables.holds(OUTCOMES)


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really", b"\xff\xfe\x00"])
def test_no_table_is_told(content: bytes, tables: DeltaTables, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_bytes(content)
    with pytest.raises((SourceError, DataError)):
        load(path, tables)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decision_id": 7}, "field 'decision_id': expected text of at most 128 characters, got 7"),
        ({"decision_id": "a" * 129}, "field 'decision_id': expected text"),
        ({"offer_id": ["a"]}, "field 'offer_id': expected text"),
        ({"observed_at": "99999-01-01"}, "field 'observed_at': expected a moment"),
        ({"observed_at": "0001-01-01T00:00:00+14:00"}, "field 'observed_at': expected a moment"),
        ({"customer": "Maria"}, "field 'customer': expected decision_id, kind, observed_at, offer_id, why"),
        ({"kind": None}, "field 'kind': expected a value, but it is missing"),
    ],
)
def test_a_wrong_outcome_is_told_by_its_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as refusal:
        checked(GOOD | change)
    assert said in str(refusal.value)
