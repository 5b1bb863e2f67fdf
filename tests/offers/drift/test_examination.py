import doctest
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.drift import Stillness, false_alarms, power
from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.contract.sections import Watching
from offers.drift import reference, significance, streak
from offers.drift import statistics as drift
from offers.drift.examination import (
    MISSING,
    UNSEEN,
    Reference,
    Streak,
    Watch,
    WatchedColumn,
    WindowReport,
    at_reference_offers,
    examine,
    examine_labels,
    watched_columns,
)
from offers.drift.window import ColumnReport, ShareReport
from offers.errors import BundleError, DataError
from offers.simulation.shifts import CovariateShift, ShareShift

COLUMNS = (
    WatchedColumn("age", "number"),
    WatchedColumn("income", "number"),
    WatchedColumn("job", "category", ("clerk", "nurse", "smith", "pilot")),
    WatchedColumn("member", "boolean", ("false", "true")),
    WatchedColumn("rate", "number", role="context", list="expected"),
    WatchedColumn("channel", "category", ("mail", "web"), role="offer", list="ours"),
)
JOBS = [0.5, 0.27, 0.2, 0.03]


def rows(number: int, seed: int, jobs: Sequence[float] = JOBS) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    income = generator.normal(size=number)
    income[generator.random(number) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "age": generator.normal(40, 10, number),
            "income": income,
            "job": generator.choice(COLUMNS[2].values, number, p=jobs),
            "member": generator.random(number) < 0.3,
            "rate": generator.normal(2, 0.1, number),
            "channel": generator.choice(["mail", "web"], number, p=[0.7, 0.3]),
        }
    )


def propensities(number: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return 1 / (1 + np.exp(2 - shift - np.random.default_rng([seed, 1]).normal(size=number)))


IMPORTANCE = {"age": 0.8, "income": 0.4, "job": 0.2, "member": 0.1, "rate": 3.0, "channel": 2.0}
USUAL = Watch(**Watching().model_dump())
BEFORE = Reference(COLUMNS, USUAL, rows(10_000, 0), propensities(10_000, 0), IMPORTANCE, "bank-1")


def window(seed: int = 1, number: int = 1000, **changed: object) -> pd.DataFrame:
    return rows(number, seed).assign(**changed)


def examined(frame: pd.DataFrame, seed: int = 1, shift: float = 0.0, **more: object) -> WindowReport:
    return examine(BEFORE, frame, propensities(len(frame), seed, shift), **more)


def column(report: WindowReport, name: str) -> ColumnReport:
    return next(column for column in report.columns if column.name == name)


def share(report: WindowReport, name: str, label: str) -> ShareReport:
    return next(share for share in column(report, name).shares if share.label == label)


def after(*reports: WindowReport, watch: Watch = BEFORE.watch) -> Streak:
    found = Streak(watch)
    for report in reports:
        found = found.after(report)
    return found


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(reference) == (0, 1)
    assert doctest.testmod(streak) == (0, 3)


def test_needs_no_pydantic() -> None:
    script = "import sys; sys.modules['pydantic'] = None\nimport offers.drift.examination, offers.model.propensity"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_contract_says_how_to_watch(shop_yaml: str) -> None:
    contract = contracts.parse(shop_yaml)
    assert Watch.of(contract) == USUAL
    changed = contracts.parse(shop_yaml + "watch: {window: 500, share_ratio: 2}\n")
    assert Watch.of(changed) == replace(USUAL, window=500, share_ratio=2.0)


def test_columns_follow_from_the_contract() -> None:
    columns = {column.name: column for column in watched_columns(contracts.load("bank-marketing"))}
    assert "duration" not in columns
    assert [name for name, column in columns.items() if column.list == "ours"] == ["contact", "day_of_week"]
    assert [name for name, column in columns.items() if column.list == "expected"] == [
        "month",
        "emp.var.rate",
        "cons.price.idx",
        "cons.conf.idx",
        "euribor3m",
        "nr.employed",
    ]
    assert columns["age"] == WatchedColumn("age", "number")
    assert columns["default"] == WatchedColumn("default", "category", ("no", "yes", "unknown"))
    loans = {column.name: column for column in watched_columns(contracts.load("personal-loan"))}
    assert loans["Online"] == WatchedColumn("Online", "boolean", ("false", "true"))


@pytest.mark.parametrize(
    "cells",
    [
        ["smith", "clerk", None, "baker"],
        pd.Categorical(["smith", "clerk", None, "baker"], categories=["baker", "smith", "clerk"]),
        pd.array(["smith", "clerk", None, "baker"], dtype="string[pyarrow]"),
    ],
)
def test_categories_become_places(cells: Any) -> None:
    np.testing.assert_array_equal(COLUMNS[2].encode(pd.Series(cells)), [2, 0, np.nan, 4])


@pytest.mark.parametrize(
    "cells",
    [[True, False, None], [1.0, 0.0, np.nan], ["true", "false", None], pd.array([True, False, None], "boolean")],
)
def test_booleans_become_places(cells: Any) -> None:
    np.testing.assert_array_equal(COLUMNS[3].encode(pd.Series(cells)), [1, 0, np.nan])


@pytest.mark.parametrize("cells", [[1, 2, None], ["1", "2", None], pd.array([1, 2, None], "Int64")])
def test_categories_of_numbers_are_read_as_the_contract_writes_them(cells: Any) -> None:
    np.testing.assert_array_equal(
        WatchedColumn("size", "category", ("1", "2")).encode(pd.Series(cells)), [0, 1, np.nan]
    )


@pytest.mark.parametrize("cells", [[1, 2.5, None], pd.array([1, 2.5, None], "Float64"), [1, 2.5, np.nan]])
def test_numbers_stay(cells: Any) -> None:
    np.testing.assert_array_equal(COLUMNS[0].encode(pd.Series(cells)), [1, 2.5, np.nan])


def test_typed_rows_and_plain_ones_are_the_same_window() -> None:
    plain = window()
    typed = plain.assign(
        job=plain["job"].astype(pd.CategoricalDtype(["unused", *reversed(COLUMNS[2].values)])),
        member=plain["member"].astype(float),
    )
    assert examined(typed) == examined(plain)
    assert examined(plain[plain.columns[::-1]]) == examined(plain)


def test_figures_are_those_of_the_statistics() -> None:
    frame = window(3)
    report = examined(frame)
    age, job = column(report, "age"), column(report, "job")
    counts = [part["job"].value_counts().reindex(COLUMNS[2].values) for part in (BEFORE.frame, frame)]
    assert age.ks == drift.ks_distance(BEFORE.frame["age"], frame["age"])
    assert age.p_value == pytest.approx(float(significance.ks_p_value(age.ks, 10_000, 1000)))
    assert age.psi == pytest.approx(drift.population_stability_index(BEFORE.frame["age"], frame["age"]))
    assert job.p_value == pytest.approx(significance.chi_squared_p_value(*counts))
    assert job.cramers_v == pytest.approx(drift.cramers_v(*counts))
    assert job.psi == pytest.approx(drift.population_stability_index(BEFORE.frame["job"], frame["job"]))
    assert share(report, "job", "pilot").p_value == pytest.approx(
        float(significance.share_p_values(counts[0]["pilot"], 10_000, counts[1]["pilot"], 1000))
    )
    assert (report.rows, report.reference_rows, report.bundle) == (1000, 10_000, "bank-1")


def test_a_window_like_the_reference_breaches_nothing() -> None:
    report = examined(window())
    flags = ("data_breached", "score_breached", "rate_breached", "attribution_breached")
    assert [flag for flag in flags if getattr(report, flag)] == []
    assert report.reasons == ()


def test_a_shifted_number_is_seen_by_its_distance() -> None:
    report = examined(window(age=lambda frame: frame["age"] + 5))
    age = column(report, "age")
    # Two normals half a standard deviation apart: twice the normal distribution at a quarter, less one.
    assert age.ks == pytest.approx(0.197, abs=0.05)
    assert age.breached
    assert report.data_breached
    assert [reason.split(" ")[0] for reason in report.reasons] == ["age"]
    assert "KS distance" in report.reasons[0]


def test_a_rare_value_that_doubles_is_seen_where_the_whole_column_is_not() -> None:
    report = examined(rows(1000, 1, [0.485, 0.262, 0.193, 0.06]))
    job, pilots = column(report, "job"), share(report, "job", "pilot")
    assert job.cramers_v is not None
    assert job.cramers_v < USUAL.cramers_v
    assert not job.distribution_breached
    assert pilots.breached
    assert job.breached
    assert report.reasons == (
        f"job: pilot in {pilots.share:.1%} of rows, {pilots.reference_share:.1%} in the reference",
    )


def test_a_column_that_is_named_as_a_whole_is_named_once() -> None:
    moved = examined(rows(1000, 1, [0.1, 0.1, 0.2, 0.6]))
    assert all(share(moved, "job", label).breached for label in ("clerk", "nurse", "pilot"))
    assert [reason.split(" ")[0] for reason in moved.reasons] == ["job"]
    assert [reason.split(" ")[0] for reason in after(moved, moved).reasons] == ["job"]


def test_missing_cells_are_a_rate_of_their_own_and_leave_the_distribution_alone() -> None:
    report = examined(window(age=lambda frame: frame["age"].where(np.arange(1000) % 20 > 0)))
    age = column(report, "age")
    assert (age.missing, age.reference_missing) == (0.05, 0)
    assert share(report, "age", MISSING).breached
    assert not age.distribution_breached


def test_a_shift_behind_missing_cells_is_seen() -> None:
    shifted = window(age=lambda frame: (frame["age"] + 20).where(np.arange(1000) > 5))
    assert column(examined(shifted), "age").distribution_breached


def test_values_never_seen_are_counted() -> None:
    report = examined(window(job=lambda frame: frame["job"].where(np.arange(1000) % 50 > 0, "astronaut")))
    assert column(report, "job").unseen == 0.02
    assert share(report, "job", UNSEEN).breached


def test_what_moves_by_nature_or_with_our_policy_is_reported_and_no_alarm() -> None:
    report = examined(window(rate=9.0, channel="web"))
    assert column(report, "rate").breached
    assert column(report, "channel").breached
    assert not report.data_breached
    assert report.reasons == ()
    assert not after(report, report, report).alarm
    assert [len(report.of_list(name)) for name in ("watched", "expected", "ours")] == [4, 1, 1]


def test_p_values_of_another_library_stand_in_for_ours() -> None:
    frame = window(age=lambda frame: frame["age"] + 5)
    assert not column(examined(frame, p_values={"age": 0.7}), "age").breached
    assert column(examined(frame, p_values={"age": 1e-6}), "age").p_value == 1e-6
    assert column(examined(frame, p_values={"age": float("nan")}), "age").p_value is None
    with pytest.raises(DataError, match="p-values of shoe size"):
        examined(frame, p_values={"shoe size": 0.5})


STRANGE = {
    "all missing": {"age": np.nan},
    "all of a category missing": {"job": None},
    "a constant": {"age": 40.0},
    "a constant elsewhere": {"age": 4000.0},
    "one category": {"job": "clerk"},
    "only values never seen": {"job": "astronaut"},
    "integers": {"age": 40},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_windows_are_breaches(kind: Any) -> None:
    report = examined(window(1, **STRANGE[kind]))
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.data_breached


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", ["nothing strange", *STRANGE])
def test_windows_of_hardly_any_rows_have_a_report(kind: Any, number: int) -> None:
    report = examined(window(1, number, **STRANGE.get(kind, {})))
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.rows == number
    assert report.data_breached <= (kind != "nothing strange")
    assert not report.rate_breached


def test_strange_references_are_compared_with() -> None:
    strange = BEFORE.frame.assign(age=np.nan, income=1.0, job="clerk", member=True)
    before = replace(BEFORE, frame=strange)
    report = examine(before, window(), propensities(1000, 1))
    assert column(report, "age").p_value is None
    assert all(column(report, name).breached for name in ("age", "income", "job", "member"))
    same = examine(before, strange.iloc[:1000], propensities(1000, 1))
    json.dumps(same.to_dict(), allow_nan=False)
    assert not same.data_breached


MISTAKES = {
    "missing column": (
        lambda frame: frame.drop(columns=["job", "age"]),
        "lacks age, job; expected the columns age, in",
    ),
    "foreign column": (lambda frame: frame.assign(shoe=1), "holds shoe, unknown here"),
    "infinite": (
        lambda frame: frame.assign(age=[1.0, -np.inf] * 500),
        "'age': expected finite numbers, got -inf in row 2",
    ),
    "words": (lambda frame: frame.assign(age="old"), "'age': expected numbers, but"),
    "no rows": (lambda frame: frame.iloc[:0], "holds no rows"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: Any) -> None:
    change, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        examined(change(window()))


@pytest.mark.parametrize(
    ("propensity", "message"),
    [
        (np.full(999, 0.5), r"one propensity for each of 1000 rows, got shape \(999,\)"),
        (np.full(1000, 1.5), "got 1.5 in row 1"),
        (np.full(1000, np.nan), "got nan in row 1"),
    ],
)
def test_what_is_no_propensity_is_refused(propensity: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        examine(BEFORE, window(), propensity)


def test_score_drift_is_seen_by_its_distribution_and_its_mean_apart() -> None:
    both = examined(window(), shift=0.6)
    assert both.score_breached
    assert both.rate_breached
    assert both.score.rate.low < both.score.rate.rate < both.score.rate.high
    assert both.score.rate.reference == pytest.approx(BEFORE.propensity.mean())
    assert not both.data_breached
    assert any("mean propensity" in reason for reason in both.reasons)

    wider = BEFORE.propensity.mean() + np.resize([-0.05, 0.05], 1000)
    report = examine(BEFORE, window(), wider)
    assert report.score_breached
    assert not report.rate_breached


def test_attribution_compares_the_watched_columns_alone() -> None:
    turned = {"age": 0.1, "income": 0.2, "job": 0.4, "member": 0.8, "rate": 3.0, "channel": 2.0}
    assert examined(window(), importance=turned).attribution_breached
    ours = IMPORTANCE | {"rate": 0.0, "channel": 9.0}
    report = examined(window(), importance=ours)
    assert report.attribution == pytest.approx(1)
    assert not report.attribution_breached
    assert examined(window()).attribution is None
    with pytest.raises(DataError, match="the importance of every watched column, got none of job"):
        examined(window(), importance={"age": 1.0, "income": 1.0, "member": 1.0})


def test_attribution_is_an_alarm_once_it_lasts() -> None:
    turned = examined(window(), importance={"age": 0.1, "income": 0.2, "job": 0.4, "member": 0.8})
    assert not after(turned).alarm
    assert after(turned, turned).signals == {"data": False, "score": False, "rate": False, "attribution": True}


def test_an_alarm_takes_consecutive_windows() -> None:
    calm, moved = examined(window(1)), examined(window(2, age=lambda frame: frame["age"] + 5))
    assert not after(moved).alarm
    assert not after(moved, calm, moved).alarm
    found = after(calm, moved, moved)
    assert found.alarm
    assert found.signals == {"data": True, "score": False, "rate": False, "attribution": False}
    assert [reason.endswith("; 2 windows in a row") for reason in found.reasons] == [True]
    assert after(moved, moved, moved).reasons[0].endswith("; 3 windows in a row")
    assert not after(moved, moved, calm).alarm
    assert after(moved, watch=replace(USUAL, consecutive=1)).alarm
    assert not after(moved, moved, watch=replace(USUAL, consecutive=3)).alarm


def test_a_streak_adds_windows_up_where_each_alone_says_too_little() -> None:
    jobs = [0.49, 0.2645, 0.1965, 0.049]
    reports = [examined(rows(1000, seed, jobs), seed) for seed in (1, 2, 3)]
    assert not any(report.data_breached for report in reports)
    found = after(*reports)
    assert found.signals["data"]
    counts = [share(report, "job", "pilot") for report in reports]
    pooled = significance.share_p_values(counts[0].reference_count, 10_000, sum(share.count for share in counts), 3000)
    assert found.runs["job=pilot"].p_value == pytest.approx(float(pooled))


def test_a_streak_adds_numbers_up_by_their_bins() -> None:
    reports = [examined(window(seed, 250, age=lambda frame: frame["age"] + 3), seed) for seed in (7, 8, 9)]
    assert not any(report.data_breached for report in reports)
    found = after(*reports)
    assert found.signals["data"]
    counts = np.sum([column(report, "age").counts for report in reports], axis=0)
    distance = drift.ks_distance_of_counts(column(reports[0], "age").reference_counts, counts)
    assert found.runs["age"].p_value == pytest.approx(float(significance.ks_p_value(distance, 10_000, 750)))


def test_a_share_that_swings_is_no_run() -> None:
    up, down = (examined(rows(1000, 1, jobs)) for jobs in ([0.46, 0.27, 0.2, 0.07], [0.525, 0.27, 0.2, 0.005]))
    assert after(up, up).alarm
    assert after(down, down).alarm
    assert not after(up, down, up, down).alarm


def test_another_bundle_begins_a_new_streak() -> None:
    moved = examined(window(2, age=lambda frame: frame["age"] + 5))
    assert after(moved, moved).alarm
    assert not after(moved, replace(moved, bundle="bank-2")).alarm
    assert after(moved, replace(moved, bundle="bank-2")).bundle == "bank-2"


def test_a_streak_goes_through_json_and_on() -> None:
    moved = examined(rows(1000, 1, [0.46, 0.27, 0.2, 0.07]), shift=0.6)
    one = after(moved)
    read = Streak.from_dict(BEFORE.watch, json.loads(json.dumps(one.to_dict())))
    assert read == one
    assert read.after(moved) == after(moved, moved)
    alarmed = after(moved, moved)
    assert Streak.from_dict(BEFORE.watch, json.loads(json.dumps(alarmed.to_dict()))) == alarmed
    for damaged in ({}, {"bundle": "", "runs": {"age": {}}, "alarms": {}}, {"bundle": "", "runs": 3, "alarms": {}}):
        with pytest.raises(DataError, match="begin a new one"):
            Streak.from_dict(BEFORE.watch, damaged)


def test_a_report_goes_into_json_whole() -> None:
    content = json.loads(json.dumps(examined(window(job=None), shift=0.6).to_dict(), allow_nan=False))
    assert content["score_breached"]
    assert content["rate_breached"]
    assert content["data_breached"]
    assert content["columns"][2]["shares"][-1]["label"] == MISSING
    assert len(content["reasons"]) == len(examined(window(job=None), shift=0.6).reasons)


def test_reference_offers_take_the_place_of_ours_together_and_nothing_else() -> None:
    columns = (*COLUMNS[:4], WatchedColumn("product", "category", ("a", "b"), role="offer", list="ours"), COLUMNS[5])
    frame = BEFORE.frame.drop(columns="rate").assign(
        product=lambda frame: frame["channel"].map({"mail": "a", "web": "b"})
    )
    before = replace(BEFORE, columns=columns, frame=frame)
    pushed = window().drop(columns="rate").assign(channel="web", product="a").set_axis(range(5, 1005))
    mixed = at_reference_offers(before, pushed, seed=3)
    assert (mixed["channel"].map({"mail": "a", "web": "b"}) == mixed["product"]).all()
    assert (mixed["channel"] == "web").mean() == pytest.approx(0.3, abs=0.05)
    pd.testing.assert_frame_equal(mixed[["age", "income", "job", "member"]], pushed[["age", "income", "job", "member"]])
    pd.testing.assert_frame_equal(mixed, at_reference_offers(before, pushed, seed=3))
    assert not mixed.equals(at_reference_offers(before, pushed, seed=4))


@pytest.mark.parametrize(("rate", "breached"), [(0.11, False), (0.22, True), (0.03, True)])
def test_acceptance_rates_are_compared(rate: float, breached: bool) -> None:
    labels = np.arange(1000) < 1000 * rate
    report = examine_labels(labels, 1126, 10_000, USUAL)
    assert (report.rate, report.reference) == (rate, 0.1126)
    assert (report.low, report.high) == significance.wilson_interval(int(1000 * rate), 1000)
    assert report.breached == breached


def test_no_labels_are_no_breach() -> None:
    report = examine_labels(np.empty(0, bool), 10, 100, USUAL)
    assert (report.p_value, report.breached, report.low, report.high) == (None, False, 0, 1)


def test_a_bundle_carries_its_reference(shop_bundle: Path) -> None:
    found, loaded = Reference.of_bundle(shop_bundle), bundles.load(shop_bundle)
    assert found.name == loaded.name
    assert found.columns == watched_columns(loaded.contract)
    assert found.watch == Watch.of(loaded.contract)
    np.testing.assert_array_equal(found.propensity, loaded.model.propensity(found.frame))
    assert list(found.importance) == loaded.model.encoder.names
    assert found.importance == loaded.model.importance(
        found.frame.iloc[np.linspace(0, len(found) - 1, 1000).astype(int)]
    )
    report = examine(found, found.frame.iloc[::3], found.propensity[::3], found.importance)
    assert not report.reasons
    assert report.attribution == pytest.approx(1)


@pytest.mark.parametrize("file", ["watch.json", "reference.parquet", "manifest.json"])
def test_a_bundle_without_its_reference_is_refused(shop_bundle: Path, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(shop_bundle, tmp_path / "bundle"))
    (copy / file).unlink()
    with pytest.raises(BundleError, match=f"{file} is missing"):
        Reference.of_bundle(copy)


def test_a_reference_that_was_changed_is_refused(shop_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shop_bundle, tmp_path / "bundle"))
    text = (copy / "watch.json").read_text()
    (copy / "watch.json").write_text(text.replace('"window": 1000', '"window": 9000'))
    with pytest.raises(BundleError, match=r"watch\.json was changed"):
        Reference.of_bundle(copy)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"contract": "shop", "files": {}}', r"it has no watch\.json, so an older version has written it: train it"),
        ("{}", "not one that this version writes"),
        ("no json", "not one that this version writes"),
    ],
)
def test_a_foreign_manifest_is_refused(tmp_path: Path, manifest: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match=message):
        Reference.of_bundle(tmp_path)


def test_small_windows_and_small_references_raise_no_alarm_by_noise() -> None:
    for world in (Stillness("bank-marketing", 200, 500), Stillness("personal-loan", 200, 1000)):
        assert false_alarms(world, references=2, windows=25) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "window", "reference_rows"),
    [("bank-marketing", 1000, 30_000), ("personal-loan", 1000, 5000), ("bank-marketing", 200, 500)],
)
def test_false_alarms_are_one_in_a_thousand_windows_at_most(name: str, window: int, reference_rows: int) -> None:
    assert false_alarms(Stillness(name, window, reference_rows), references=10, windows=100) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shift"),
    [
        ("bank-marketing", CovariateShift(0, "age", 0.5)),
        ("personal-loan", CovariateShift(0, "Income", 0.5)),
        ("bank-marketing", ShareShift(0, "job", "student", 2)),
        ("bank-marketing", ShareShift(0, "job", "housemaid", 2)),
    ],
)
def test_drift_is_an_alarm_within_three_windows(name: str, shift: CovariateShift | ShareShift) -> None:
    assert power(Stillness(name), shift, references=5, runs=20) >= 0.95
