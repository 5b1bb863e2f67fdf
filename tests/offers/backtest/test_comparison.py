from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from offers.backtest import comparison as backtest
from offers.backtest.baselines import Baseline, scores
from offers.backtest.clock import Clock, Delay, usual_delay
from offers.backtest.comparison import cases, compare, measure, policies
from offers.backtest.history import History
from offers.backtest.replay import Look, Replay
from offers.backtest.results import Case, ReplayResult, earned, summary
from offers.backtest.schedule import Schedule
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.contract.sections import Challenge, GateRule
from offers.data.dataset import Dataset
from offers.data.validation import validate
from offers.errors import ContractError, DataError
from offers.evaluation.refits import rolling_propensity
from offers.model.encoder import Encoder
from offers.training import learners
from offers.training.learners import BoostedTrees

ROWS, WINDOW = 2400, 100
TWO_OF_THREE = Schedule("two of three", True)


@pytest.fixture(scope="module")
def contract(shop_contract: Contract) -> Contract:
    watch = shop_contract.watch.model_copy(update={"window": WINDOW})
    retraining = shop_contract.retraining.model_copy(
        update={"cool_down": 200, "patience": 600, "labels": 50, "surprise": 2.0}
    )
    open_gate = Challenge(fewest=50, auc=1, log_loss=9, ece=1)
    # No rule of the gate: the first model lives at once.
    update = {"watch": watch, "retraining": retraining, "challenge": open_gate, "gate": ()}
    return shop_contract.model_copy(update=update)


@pytest.fixture(scope="module")
def dataset(contract: Contract, shop_rows: Callable[..., pd.DataFrame]) -> Dataset:
    """Rows whose customers spend ever more, and whose acceptance falls to a tenth at row 1 500."""
    prepared = Dataset.prepare(validate(shop_rows(ROWS), contract).frame, contract)
    # Another seed than the rows': with theirs a column would be the very numbers that the labels are drawn by.
    generator = np.random.default_rng(1)
    frame = prepared.frame.assign(spending=prepared.frame["spending"] * np.linspace(0.5, 2, ROWS))
    late = np.arange(ROWS) >= 1500
    chance = np.where(late, 0.05, 0.5) + 0.3 * (frame["channel"] == "web").to_numpy()
    return replace(prepared, frame=frame, labels=(generator.random(ROWS) < chance).astype(np.int8))


@pytest.fixture
def history(contract: Contract, dataset: Dataset, tmp_path: Path) -> History:
    return History(contract, dataset, tmp_path / "boosters")


@pytest.fixture(scope="module")
def kept(contract: Contract, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> History:
    """A history whose boosters are shared by the tests of this module."""
    return History(contract, dataset, tmp_path_factory.mktemp("boosters"))


def test_a_schedule_is_what_the_gate_measures(kept: History, contract: Contract, dataset: Dataset) -> None:
    plain = contract.model_copy(update={"dynamics": contract.dynamics.model_copy(update={"share": 0})})
    learner = BoostedTrees(contract.model, tuple(Encoder.of(contract).feature_types))
    for shift in (0, 30):
        expected = rolling_propensity(learner, kept.matrix, dataset.labels, plain, shift)
        start = kept.origin + shift - (100 if shift else 0)
        run = Replay(kept, Schedule("rows", False, 100), start).run()
        np.testing.assert_array_equal(run.propensity[kept.origin :], expected)


def test_a_schedule_is_kept_between_windows(kept: History, contract: Contract, dataset: Dataset) -> None:
    wide = contract.model_copy(update={"watch": contract.watch.model_copy(update={"window": 250})})
    history = History(wide, dataset, kept.directory)
    run = Replay(history, Schedule("rows", True, 100), history.origin).run()
    assert run.retrained == list(range(history.origin + 100, ROWS, 100))
    assert not run.updated
    run = Replay(history, Schedule("rows", True, 400), history.origin).run()
    assert [at - history.origin for at in run.updated] == [250, 650, 1050]


def test_trains_what_the_product_trains(kept: History, contract: Contract, dataset: Dataset) -> None:
    rows = 1234
    expected = learners.train(contract, contract.model, kept.matrix[:rows], dataset.labels[:rows])
    found = kept.train(rows, True, 0)
    assert found.layer.to_json() == expected.layer.to_json()
    np.testing.assert_allclose(found.propensity(dataset.frame), expected.propensity(dataset.frame), atol=1e-9)


def mixed(dataset: Dataset, since: int, seed: int = 1) -> Dataset:
    """The same rows, with the labels from row `since` on in another order."""
    labels = dataset.labels.copy()
    labels[since:] = np.random.default_rng(seed).permutation(1 - labels[since:])
    return replace(dataset, labels=labels)


def scored_before(run: Replay, until: int) -> tuple[list[float], list[list[int]], list[Look]]:
    """Everything that was scored or decided before row `until`."""
    decided = [[at for at in what if at < until] for what in (run.retrained, run.updated)]
    return run.propensity[:until].tolist(), decided, [look for look in run.looks if look.at < until]


@pytest.mark.parametrize(("at", "delay"), [(1400, 0), (1900, 150)])
def test_labels_that_mature_later_change_nothing_before(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path, delay: int, at: int
) -> None:
    other = History(contract, mixed(dataset, at - delay), tmp_path)
    for policy in policies(contract):
        runs = [Replay(history, policy, history.origin, Delay(delay)).run() for history in (kept, other)]
        # What is decided at row `at` knows the labels before at - delay; it is the next window that knows more.
        before, after = (np.nan_to_num(scored_before(run, at + WINDOW)[0], nan=-1) for run in runs)
        np.testing.assert_array_equal(before, after, err_msg=policy.name)
        assert scored_before(runs[0], at + 1)[1:] == scored_before(runs[1], at + 1)[1:]


def test_labels_that_have_matured_do_change_what_follows(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    other = History(contract, mixed(dataset, 1400), tmp_path)
    for policy in policies(contract):
        runs = [Replay(history, policy, history.origin).run() for history in (kept, other)]
        # Without labels nothing but the calendar, or drift, can move a model; all others have learnt.
        assert (runs[0].propensity[kept.origin :] == runs[1].propensity[kept.origin :]).all() == (
            policy.name == "never"
        ), policy.name


def test_rows_that_come_later_change_nothing_before(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    frame = dataset.frame.copy()
    frame.iloc[1700:] = frame.iloc[1700:].sample(frac=1, random_state=0).to_numpy()
    frame = frame.astype(dataset.frame.dtypes)
    other = History(contract, replace(dataset, frame=frame), tmp_path)
    runs = [Replay(history, TWO_OF_THREE, history.origin).run() for history in (kept, other)]
    np.testing.assert_array_equal(*[run.propensity[kept.origin : 1700] for run in runs])
    assert scored_before(runs[0], 1701)[1:] == scored_before(runs[1], 1701)[1:]
    assert not np.array_equal(*[run.propensity[1700:] for run in runs])


@pytest.mark.parametrize("delay", [0, 300])
def test_labels_come_as_late_as_the_delay_says(kept: History, delay: int) -> None:
    drop, run = 1500, Replay(kept, Schedule("drift", False), kept.origin, Delay(delay)).run()
    first = [look for look in run.looks if look.at <= min(run.retrained, default=ROWS)]
    assert all(look.signals.labels == look.at - kept.origin for look in first)
    harmed = [look.at for look in run.looks if look.signals.performance and look.at > drop]
    assert drop + delay < min(harmed) <= drop + delay + 3 * WINDOW


def timeless(result: ReplayResult) -> ReplayResult:
    """A result without the time that it took."""
    return result.model_copy(update={"seconds": 0})


def test_the_loop_answers_a_change_and_is_the_better_for_it(kept: History) -> None:
    never = measure(kept, Case(Schedule("never", False), 0, Delay()))
    watched = measure(kept, Case(TWO_OF_THREE, 0, Delay()))
    assert never.retrained == never.updated == never.alarms == ()
    assert watched.retrained
    assert all(at >= 0 for at in watched.retrained)
    assert watched.pooled.log_loss < never.pooled.log_loss - 0.1
    assert watched.pooled.ece < never.pooled.ece / 2


def test_a_policy_without_a_layer_makes_no_updates(kept: History) -> None:
    for policy in policies(kept.contract):
        found = measure(kept, Case(policy, 0, Delay()))
        # A model that is trained anew for each window has no time to be updated.
        assert bool(found.updated) == (policy.learns and policy.every != WINDOW), policy.name


def test_every_policy_alignment_and_delay_is_a_case_of_its_own(contract: Contract) -> None:
    found = cases(contract, (0, 50), (Delay(), Delay(100), Delay(200)))
    assert len(found) == len({case.name for case in found}) == 14 * 2 * 3 + 3 * 3
    assert {policy.every for policy in policies(contract) if policy.trigger == "rows"} == {100, 200, 400}


@pytest.mark.slow
def test_results_are_the_same_by_one_process_or_two(contract: Contract, history: History, tmp_path: Path) -> None:
    chosen = [Case(policy, shift, Delay(50)) for policy in policies(contract)[-2:] for shift in (0, 30)]
    one = compare(history, chosen, tmp_path / "one", workers=1)
    other = History(contract, history.dataset, tmp_path / "other boosters")
    two = compare(other, chosen, tmp_path / "two", workers=2)
    assert list(map(timeless, two)) == list(map(timeless, one))
    assert [(r.policy, r.alignment, r.delay) for r in one] == [(c.policy.name, c.alignment, "50") for c in chosen]


def test_a_run_that_was_stopped_goes_on_where_it_was(
    kept: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [case for case in cases(kept.contract, (0,), (Delay(),)) if isinstance(case.policy, Schedule)][:4]

    def stop(n: int, total: int, name: str) -> None:
        if n == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(kept, chosen, tmp_path, 1, stop)
    replayed = []

    class Counted(Replay):
        def run(self) -> Replay:
            replayed.append(self.policy)
            return super().run()

    monkeypatch.setattr(backtest, "Replay", Counted)
    found = compare(kept, chosen, tmp_path, 1)
    assert replayed == [case.policy for case in chosen[2:]]
    assert [timeless(result) for result in found] == [timeless(measure(kept, case)) for case in chosen]


def test_other_rows_labels_or_settings_have_results_of_their_own(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    retraining = contract.retraining.model_copy(update={"cool_down": 300})
    others = [
        History(contract, mixed(dataset, 2000), tmp_path),
        History(contract.model_copy(update={"retraining": retraining}), dataset, tmp_path),
        replace(kept, seed=1),
    ]
    assert len({backtest.fingerprint(history) for history in (kept, *others)}) == 4
    assert backtest.fingerprint(History(contract, dataset, tmp_path)) == backtest.fingerprint(kept)


def test_summary_is_mean_and_range_over_alignments(kept: History) -> None:
    results = [measure(kept, Case(TWO_OF_THREE, shift, Delay())) for shift in (0, 30, 60)]
    (line,) = summary(results)
    aucs = [result.pooled.auc for result in results]
    assert line.alignments == 3
    assert line.auc == pytest.approx(np.mean(aucs))
    assert (line.lowest_auc, line.highest_auc) == (min(aucs), max(aucs))
    assert line.retrainings == pytest.approx(np.mean([len(result.retrained) for result in results]))
    assert len(line.windows) == kept.contract.evaluation.windows


def test_results_survive_their_file(kept: History) -> None:
    found = measure(kept, Case(TWO_OF_THREE, 30, Delay()))
    assert ReplayResult.model_validate_json(found.model_dump_json()) == found


def test_a_delay_that_leaves_no_labels_is_refused(kept: History, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label delay of 1150 rows"):
        compare(kept, [Case(TWO_OF_THREE, 0, Delay(1150))], tmp_path)


def test_rows_without_time_order_are_refused(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    timeless = History(contract.model_copy(update={"time": None}), dataset, tmp_path)
    with pytest.raises(DataError, match="expected rows in time order"):
        compare(timeless, [Case(TWO_OF_THREE, 0, Delay())], tmp_path)


def test_baselines_are_what_they_say(kept: History, dataset: Dataset) -> None:
    random, trailing, oracle = (measure(kept, Case(name, 0, Delay())) for name in get_args(Baseline))
    assert random.pooled.auc == pytest.approx(0.5, abs=0.1)
    assert random.pooled.accepted[1] == pytest.approx(dataset.labels[kept.origin :].sum() * 0.3, rel=0.3)
    assert oracle.pooled.auc > trailing.pooled.auc
    assert oracle.pooled.accepted[0] > random.pooled.accepted[0]
    assert trailing.pooled.within is None or trailing.pooled.within == pytest.approx(0.5, abs=0.1)


def test_the_trailing_rate_knows_no_label_too_early(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    other = History(contract, mixed(dataset, 1700), tmp_path)
    ours, theirs = (scores("trailing rate", history, Clock(history, Delay(100))) for history in (kept, other))
    np.testing.assert_array_equal(ours[kept.origin : 1801], theirs[kept.origin : 1801])
    assert not np.array_equal(ours[1801:], theirs[1801:])


def test_a_swap_that_the_gate_refuses_changes_nothing(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    strict = contract.model_copy(update={"challenge": contract.challenge.model_copy(update={"fewest": 10**6})})
    run = Replay(History(strict, dataset, tmp_path), Schedule("rows", False, 400), kept.origin).run()
    never = Replay(kept, Schedule("never", False), kept.origin).run()
    assert run.retrained == []
    assert run.refused == list(range(kept.origin + 400, ROWS, 400))
    np.testing.assert_array_equal(run.propensity[kept.origin :], never.propensity[kept.origin :])


def test_a_challenger_meets_the_rules_of_the_gate_beside_the_challenge(
    contract: Contract, dataset: Dataset, tmp_path: Path
) -> None:
    # No interval of a difference stays above it, and a first model has no champion to be compared with.
    rule = GateRule(metric="auc", not_worse_than_champion_by=0)
    history = History(contract.model_copy(update={"gate": (rule,)}), dataset, tmp_path)
    run = Replay(history, Schedule("rows", True, 400), history.origin).run()
    assert (run.live_from, run.retrained) == (history.origin, [])
    assert run.refused == list(range(history.origin + 400, ROWS, 400))


def test_an_update_that_harms_is_refused(contract: Contract, dataset: Dataset, tmp_path: Path) -> None:
    # What the layer learns in one batch is wrong in the next.
    places = np.arange(ROWS)
    labels = np.where(places < 1440, dataset.labels, 1 - places // 20 % 2).astype(np.int8)
    dynamics = contract.dynamics.model_copy(update={"batch": 20})
    strict = Challenge(fewest=50, auc=0, log_loss=0, chance=0, ece=0)
    update = {"challenge": strict, "dynamics": dynamics}
    history = History(contract.model_copy(update=update), replace(dataset, labels=labels), tmp_path)
    run = Replay(history, Schedule("never", True), 1440).run()
    assert (run.updated, run.refused) == ([], list(range(1540, ROWS, WINDOW)))


def test_euros_are_margins_less_contacts() -> None:
    # 250 + 250 + 100 rows: 25, 25 and 10 contacts.
    assert earned(20, 600, 0.1, value=100, cost=3) == 20 * 100 - 60 * 3


def test_labels_mature_by_the_contracts_days_where_rows_have_dates(shop_contract: Contract) -> None:
    late = shop_contract.model_copy(
        update={"target": shop_contract.target.model_copy(update={"matures_after_days": 13.5})}
    )
    assert usual_delay(late) == Delay(14, by_days=True)
    # Its days are spread over its months.
    assert usual_delay(contracts.load("bank-marketing")) == Delay()


def dated(history: History, rows_a_day: int) -> History:
    return replace(history, days=100 + np.arange(ROWS) // rows_a_day)


@pytest.mark.parametrize(("text", "known"), [("0d", 1440), ("1d", 1440), ("7d", 1200), ("30", 1430), ("0", 1460)])
def test_a_label_is_known_so_many_rows_or_days_later(kept: History, text: str, known: int) -> None:
    # Row 1 460 is of the day that begins at row 1 440, at 40 rows a day.
    assert Clock(dated(kept, 40), Delay.parse(text)).known(1460) == known


def test_by_days_a_model_changes_in_the_morning(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    history, day = dated(kept, 40), Delay.parse("1d")
    run = Replay(history, Schedule("rows", True, 200), history.origin + 10, day).run()
    assert run.retrained
    assert run.updated
    assert all(at % 40 == 0 for at in run.retrained + run.updated)
    # What happens to the day's own customers is known on the next morning only.
    other = dated(History(contract, mixed(dataset, 1600), tmp_path), 40)
    again = Replay(other, Schedule("rows", True, 200), history.origin + 10, day).run()
    np.testing.assert_array_equal(
        run.propensity[history.origin + 10 : 1640], again.propensity[history.origin + 10 : 1640]
    )
    assert not np.array_equal(run.propensity[1640:], again.propensity[1640:])


def test_days_that_are_not_known_are_asked_for(kept: History, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a delay of 30 days needs the days of rows"):
        compare(kept, [Case(TWO_OF_THREE, 0, Delay.parse("30d"))], tmp_path)


@pytest.mark.parametrize("text", ["", "d", "-3", "3 d", "3w", "1e3"])
def test_a_delay_is_a_number_of_rows_or_days(text: str) -> None:
    with pytest.raises(ContractError, match="expected a number of rows such as 500"):
        Delay.parse(text)


def test_no_first_model_lives_that_the_gate_refuses(
    kept: History, dataset: Dataset, contract: Contract, tmp_path: Path
) -> None:
    rule = GateRule(metric="auc", at_least=0.99)
    history = History(contract.model_copy(update={"gate": (rule,)}), dataset, tmp_path)
    result = measure(history, Case(Schedule("never", False), 0, Delay()))
    assert result.live_from is None
    assert result.refused == tuple(range(0, ROWS - history.origin, contract.retraining.cool_down))
    # Every customer gets the rate of the labels known then.
    run = Replay(history, Schedule("never", False), history.origin).run()
    newest = dataset.labels[history.origin - 200 : history.origin]
    assert set(run.propensity[history.origin : history.origin + 100]) == {(newest.sum() + 1) / 202}
    lax = GateRule(metric="auc", at_least=0.5)
    other = History(contract.model_copy(update={"gate": (lax,)}), dataset, tmp_path)
    assert measure(other, Case(TWO_OF_THREE, 0, Delay())).live_from == 0
