"""Live decisions of a simulated club are measured as other libraries, or a count by hand, would measure them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from offers.bundle import bundle as bundles
from offers.bundle.bundle import Bundle
from offers.decisions.period import Period
from offers.decisions.scored import DistinctRows, no_outcomes, read_outcomes, read_scored
from offers.drift.selection import encoded
from offers.errors import DataError
from offers.monitoring import inspection
from offers.monitoring.findings import Drift
from offers.monitoring.inspection import Decisions
from offers.settings import Settings
from offers.simulation.shifts import ConceptShift, CovariateShift, Regime, ShareShift
from tests.support.live import LiveRows, live, train_club

MATURES = pd.Timedelta(days=10)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.load(train_club(tmp_path_factory.mktemp("club")).bundle)


@pytest.fixture(scope="module")
def rows(bundle: Bundle) -> LiveRows:
    return live(bundle.path)


@dataclass(frozen=True)
class Look:
    """What a monitoring run has before it compares anything."""

    scored: DistinctRows
    outcomes: DistinctRows
    decisions: Decisions
    period: Period


@pytest.fixture
def look(bundle: Bundle, tmp_path: Path, settings: Settings) -> Callable[..., Look]:
    def look(rows: LiveRows, since: str = "", until: str = "", as_of: str = "") -> Look:
        where, told = rows.write(tmp_path)
        period = Period.parse(since, until, as_of or rows.end)
        scored, outcomes = read_scored(where, bundle.contract, settings), read_outcomes(told, settings)
        mine = inspection.of_bundle(scored, bundle, period)
        return Look(scored, outcomes, inspection.join(mine, outcomes.frame, bundle.contract, period), period)

    return look


def mature(rows: LiveRows) -> pd.Series:
    return rows.scored["scored_at"] + MATURES <= pd.Timestamp(rows.end)


def changed(rows: LiveRows, **columns: object) -> LiveRows:
    return replace(rows, scored=rows.scored.assign(**columns))


def test_figures_are_those_of_scikit_learn_on_mature_rows(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    found = inspection.performance(look(rows).decisions, bundle)
    assert found is not None
    both = rows.scored[mature(rows)].merge(rows.outcomes, on="decision_id")
    assert found.scores.rows == len(both)
    assert found.scores["auc"].value == pytest.approx(roc_auc_score(both["outcome"], both["_propensity"]), abs=1e-6)
    assert found.scores["log_loss"].value == pytest.approx(log_loss(both["outcome"], both["_propensity"]), abs=1e-6)
    assert found.log_loss.observed == pytest.approx(log_loss(both["outcome"], both["_propensity"]))
    assert found.rate.observed == pytest.approx(both["outcome"].mean())
    assert found.rate.expected == pytest.approx(both["_propensity"].mean())
    assert found.at_the_gate == bundle.evaluation.model


def test_immature_labels_are_not_looked_at(bundle: Bundle, rows: LiveRows, look: Callable[..., Look]) -> None:
    young = ~mature(rows)
    assert young.sum() > 50
    lies = replace(rows, outcomes=rows.outcomes.assign(outcome=rows.outcomes["outcome"] ^ young))
    assert inspection.performance(look(lies).decisions, bundle) == inspection.performance(look(rows).decisions, bundle)
    counts = inspection.labels(look(rows).decisions, bundle.contract)
    assert (counts.immature, counts.mature) == (young.sum(), (~young).sum())


def test_decisions_without_an_outcome_count_neither_way(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    told = replace(rows, outcomes=rows.outcomes[rows.outcomes["outcome"]])
    seen = look(told)
    counts = inspection.labels(seen.decisions, bundle.contract)
    accepted = int(rows.outcomes.loc[mature(rows), "outcome"].sum())
    assert (counts.labelled, counts.accepted) == (accepted, accepted)
    assert counts.unlabelled == mature(rows).sum() - accepted
    found = inspection.performance(seen.decisions, bundle)
    assert found is not None
    assert found.scores.figures == {}
    none = inspection.join(seen.decisions.rows, no_outcomes().frame, bundle.contract, seen.period)
    assert inspection.performance(none, bundle) is None


def test_labels_are_of_decisions_that_have_matured_since_the_period_began(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    decisions = look(rows, since="30d").decisions
    scored_at, end = rows.scored["scored_at"], pd.Timestamp(rows.end)
    assert decisions.inside.tolist() == (scored_at >= end - pd.Timedelta(days=30)).tolist()
    old_enough = (scored_at + MATURES <= end) & (scored_at + MATURES >= end - pd.Timedelta(days=30))
    assert decisions.judged.tolist() == old_enough.tolist()
    assert 0 < old_enough.sum() < mature(rows).sum()


def test_outcomes_that_come_later_are_not_known_yet(rows: LiveRows, look: Callable[..., Look]) -> None:
    middle = rows.scored["scored_at"].iloc[1500]
    decisions = look(rows, as_of=middle.isoformat()).decisions
    late = rows.outcomes["observed_at"][: len(decisions.rows)] > middle
    assert len(decisions.rows) == 1500
    assert late.sum() > 10
    assert np.isnan(decisions.outcome).tolist() == late.tolist()


def test_outcomes_from_before_their_decision_are_counted_and_not_used(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    early = rows.outcomes["observed_at"].mask(rows.outcomes.index < 7, pd.Timestamp("2020-01-01", tz="UTC"))
    strange = rows.outcomes.tail(3).assign(decision_id=["x1", "x2", "x3"])
    outcomes = pd.concat([rows.outcomes.assign(observed_at=early), strange, rows.outcomes.tail(2)])
    seen = look(replace(rows, outcomes=outcomes))
    found = inspection.quality(seen.scored, seen.outcomes, seen.decisions, bundle, seen.period)
    assert (found.too_early, found.orphans, found.repeated_outcomes) == (7, 3, 2)
    late = (rows.outcomes["observed_at"] > pd.Timestamp(rows.end)).to_numpy()
    assert np.isnan(seen.decisions.outcome).tolist() == (late | (np.arange(len(late)) < 7)).tolist()


def test_rows_that_break_the_contract_are_counted_by_rule(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    place = np.arange(len(rows.scored))
    broken = changed(
        rows,
        age=rows.scored["age"].astype(float).mask(place < 5, 7.0),
        sport=rows.scored["sport"].astype(object).mask(place % 10 == 0, "golf"),
        member=rows.scored["member"].astype(object).mask(place == 3, None),
    )
    seen = look(broken)
    found = inspection.quality(seen.scored, seen.outcomes, seen.decisions, bundle, seen.period)
    assert {(fault.column, fault.expected): fault.rows for fault in found.faults} == {
        ("age", "at least 16"): 5,
        ("sport", "one of football, tennis, rowing, chess"): 300,
        ("member", "a value, not nothing"): 1,
    }
    assert found.broken == 304
    assert found.differing == 0
    by_name = {column.column: column for column in found.columns}
    assert by_name["sport"].unseen == 0.1
    assert by_name["member"].missing == round(1 / 3000, 6)
    assert by_name["visits"].missing == pytest.approx(by_name["visits"].usual, abs=0.02)
    assert inspection.drift(seen.decisions, bundle).signals["data"]


def test_another_propensity_than_the_bundle_gives_is_noticed(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    place = np.arange(len(rows.scored))
    seen = look(changed(rows, _propensity=rows.scored["_propensity"].mask(place < 20, 0.5)))
    found = inspection.quality(seen.scored, seen.outcomes, seen.decisions, bundle, seen.period)
    assert found.differing == 20


def test_decisions_of_other_bundles_are_counted_and_not_judged(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    other = "club-0123456789abcdef"
    seen = look(changed(rows, bundle=[other] * 1000 + [bundle.name] * 2000))
    found = inspection.quality(seen.scored, seen.outcomes, seen.decisions, bundle, seen.period)
    assert (found.rows, found.others) == (2000, {other: 1000})
    assert found.orphans == 0
    assert sum(day.rows for day in inspection.volume(seen.scored, seen.period).days) == 3000
    with pytest.raises(DataError, match=rf"expected rows scored by bundle {bundle.name}, got 3000 rows by {other}"):
        look(changed(rows, bundle=other))


def test_a_bundle_that_did_not_serve_in_the_period_is_not_judged_by_it(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    newer = "club-0123456789abcdef"
    replaced = changed(rows, bundle=[bundle.name] * 2000 + [newer] * 1000)
    change, newest = rows.scored["scored_at"][2000].isoformat(), rows.scored["scored_at"].iloc[-1]
    message = f"{bundle.name}, got 1000 rows by {newer}, the newest of {newest:%Y-%m-%d %H:%M} UTC: name the bundle"
    with pytest.raises(DataError, match=message):
        look(replaced, since=change)
    before = look(replaced, until=change)
    assert len(before.decisions.period) == 2000
    silent = look(replaced, since="2100-01-01", as_of="2100-01-08")
    assert (len(silent.decisions.rows), len(silent.decisions.period)) == (2000, 0)
    with pytest.raises(DataError, match=f"got 3000 rows by {newer}"):
        look(changed(rows, bundle=newer), since="2100-01-01", as_of="2100-01-08")


def test_days_without_decisions_are_silent() -> None:
    moments = [f"2024-05-{day:02} {hour:02}:00" for day in (1, 2, 4, 5, 6) for hour in range(4 if day != 5 else 9)]
    scored = DistinctRows(pd.DataFrame({"scored_at": pd.to_datetime(moments, utc=True)}), 0)

    def volume(since: str, until: str) -> inspection.Volume:
        return inspection.volume(scored, Period.parse(since, until, "2024-06-01"))

    found = volume("2024-05-01", "2024-05-08")
    assert [day.rows for day in found.days] == [4, 4, 0, 4, 9, 4, 0]
    assert (found.median, found.silent, found.unusual) == (4.0, ("2024-05-03", "2024-05-07"), ("2024-05-05",))
    cut = volume("2024-05-01T03:00", "2024-05-06T01:00")
    assert [day.rows for day in cut.days] == [1, 4, 0, 4, 9, 1]
    assert (cut.silent, cut.unusual) == (("2024-05-03",), ("2024-05-05",))
    assert volume("2024-05-20", "2024-05-22").silent == ("2024-05-20", "2024-05-21")


def test_an_empty_period_has_no_days(bundle: Bundle, rows: LiveRows, look: Callable[..., Look]) -> None:
    seen = look(rows, until="2020-01-01")
    assert inspection.volume(seen.scored, seen.period).days == ()
    found = inspection.quality(seen.scored, seen.outcomes, seen.decisions, bundle, seen.period)
    assert (found.rows, found.broken, found.differing) == (0, 0, 0)
    assert inspection.drift(seen.decisions, bundle).signals == dict.fromkeys(
        ("data", "score", "rate", "attribution"), None
    )


def test_surprise_has_unit_variance_where_propensities_are_true() -> None:
    generator = np.random.default_rng(5)
    propensity = generator.beta(1, 4, 400)
    slope, offset = np.log1p(-propensity) - np.log(propensity), -np.log1p(-propensity)
    drawn = [(generator.random(400) < propensity).astype(int) for _ in range(400)]
    for z in (
        np.array([inspection.surprise(labels, propensity, np.ones(400)).z for labels in drawn]),
        np.array([inspection.surprise(labels, propensity, slope, offset).z for labels in drawn]),
    ):
        assert abs(z.mean()) < 0.15
        assert 0.85 < z.std() < 1.15
    even = inspection.surprise(np.array([1, 1, 1, 0]), np.full(4, 0.5), np.ones(4))
    assert (even.observed, even.expected, even.z) == (0.75, 0.5, 1.0)
    assert even.p == pytest.approx(0.3173, abs=1e-4)


def test_protected_groups_are_compared_as_in_training(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    found = inspection.performance(look(rows).decisions, bundle)
    assert found is not None
    assert [fair.column for fair in found.fairness] == ["age"]
    assert found.fairness_unknown == ("region",)
    known = rows.scored[mature(rows)].merge(rows.outcomes, on="decision_id")
    band = known[(known["age"] >= 30) & (known["age"] < 60)]
    group = next(group for group in found.fairness[0].groups if group.value == "30 to <60")
    assert group.rows == len(band)
    assert group.positive_rate == pytest.approx(band["outcome"].mean(), abs=1e-6)
    best = known["_propensity"].nlargest(round(0.1 * len(known))).index
    assert group.selection_rate == pytest.approx(band.index.isin(best).mean(), abs=1e-6)


@pytest.fixture
def drift(bundle: Bundle, look: Callable[..., Look]) -> Callable[..., Drift]:
    return lambda *regimes, **sizes: inspection.drift(look(live(bundle.path, regimes, **sizes)).decisions, bundle)


@pytest.mark.parametrize(
    ("regimes", "data"),
    [
        ((), False),
        ((CovariateShift(0, "income", 1.0),), True),
        ((ShareShift(0, "sport", "chess", 2.0),), True),
        ((ShareShift(0, "channel", "web", 2.0),), False),
        ((ConceptShift(0, 0.9),), False),
    ],
)
def test_data_drift_is_what_customers_and_not_the_bank_change(
    regimes: tuple[Regime, ...], data: bool, drift: Callable[..., Drift]
) -> None:
    found = drift(*regimes)
    assert found.signals["data"] is data
    assert (len(found.windows), found.left_out, found.size) == (6, 0, 500)


def test_windows_go_forward_in_time_and_end_with_the_last_row(drift: Callable[..., Drift], rows: LiveRows) -> None:
    found = drift(CovariateShift(2500, "income", 1.0))
    assert not found.signals["data"]
    assert [window.report["data_breached"] for window in found.windows] == [False] * 5 + [True]
    assert found.windows[-1].last == rows.scored["scored_at"].iloc[-1].to_pydatetime()
    fewer = drift(CovariateShift(2000, "income", 1.0), rows=2999)
    assert fewer.left_out == 499
    assert fewer.windows[0].first == rows.scored["scored_at"].dt.floor("s")[0] or len(fewer.windows) == 5


def test_too_few_rows_for_an_alarm_are_not_judged(drift: Callable[..., Drift]) -> None:
    one = drift(CovariateShift(0, "income", 1.0), rows=999)
    assert len(one.windows) == 1
    assert one.windows[0].report["data_breached"]
    assert set(one.signals.values()) == {None}


def test_rows_that_rules_choose_are_compared_with_a_reference_that_they_choose(
    bundle: Bundle, rows: LiveRows, look: Callable[..., Look]
) -> None:
    reference = pd.read_parquet(bundle.path / "reference.parquet")
    chosen = rows.scored["age"] >= 40
    seen = look(LiveRows(rows.scored[chosen].reset_index(drop=True), rows.outcomes))
    assert inspection.drift(seen.decisions, bundle).signals["data"]
    selection = encoded((reference["age"] >= 40).to_numpy())
    assert not inspection.drift(seen.decisions, bundle, selection).signals["data"]
