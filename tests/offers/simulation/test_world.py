import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from pandas.testing import assert_frame_equal
from scipy.special import logit
from scipy.stats import binomtest, chi2, chi2_contingency, chisquare, ks_2samp, skew
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from offers.contract import contract as contracts
from offers.contract.column import MONTHS, Role
from offers.contract.contract import Contract
from offers.data import csv_writer
from offers.data.csv_writer import write_csv
from offers.data.periods import periods
from offers.data.validation import validate
from offers.errors import ContractError, SourceError, StorageError
from offers.simulation import world as simulate
from offers.simulation.arrays import BLOCK, REFERENCE_BLOCKS
from offers.simulation.shifts import ConceptShift, CovariateShift, RateShift, ShareShift
from offers.simulation.world import World

RENTAL = """\
name: rental
title: Tenants who are offered an insurance
source:
  file: locataires.csv
  format: {separator: ";", decimal: ",", quote: "'", encoding: latin-1}
target: {column: signé, positive: oui, negative: non, matures_after_days: 10}
time: {column: day}
columns:
  - {name: client, role: identifier, type: text}
  - {name: file number, role: identifier, type: integer, min: 100}
  - {name: day, role: time, type: date}
  - {name: income, role: customer, type: number, unit: EUR, min: 0, typical: [800, 5200], nullable: true}
  - {name: tenure, role: customer, type: integer, min: 0, max: 40, missing: [-1, 99]}
  - {name: rooms, role: customer, type: number, missing: ["5,5"]}
  - {name: plan, role: offer, type: category, values: [fixe, "à la carte", "a;b"]}
  - {name: region, role: customer, type: category, values: [north, south, west], unknown: missing}
  - {name: newsletter, role: customer, type: boolean}
  - {name: owner, role: customer, type: boolean, nullable: true}
  - {name: group, role: protected, type: category, values: [p, q]}
  - {name: rate, role: context, type: number, typical: [0.5, 4.5]}
  - {name: season, role: context, type: category, values: [low, high]}
  - {name: closed, role: leakage, type: date}
  - {name: stage, role: leakage, type: category, values: [open, talked, closed]}
  - {name: signé, role: target, type: boolean}
gate:
  - {metric: auc, on: pooled, at_least: 0.6}
simulation: {rows: 3000, base_rate: 0.2, customer_spread: 1.0, period_spread: 0.5, periods: 15}
"""
BANK, LOAN = contracts.load("bank-marketing"), contracts.load("personal-loan")
MADE_UP = contracts.parse(RENTAL)
ALL = pytest.mark.parametrize("contract", [BANK, LOAN, MADE_UP], ids=lambda contract: contract.name)


def changed(contract: Contract, **simulation: Any) -> Contract:
    return contract.model_copy(update={"simulation": contract.simulation.model_copy(update=simulation)})


def with_column(contract: Contract, name: str, **keys: Any) -> Contract:
    """The contract with other keys for one column."""
    content = contract.model_dump()
    content["columns"] = [column | (keys if column["name"] == name else {}) for column in content["columns"]]
    return Contract.model_validate(content)


def assert_same(left: simulate.Sample, right: simulate.Sample) -> None:
    assert_frame_equal(left.frame, right.frame)
    for name in ("decided_at", "outcome_at"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    # The intercept is searched for within bounds that follow from the settings, to 12 digits.
    np.testing.assert_allclose(left.propensity, right.propensity, rtol=1e-10)


def part(sample: simulate.Sample, rows: Any) -> simulate.Sample:
    return simulate.Sample(
        sample.frame.iloc[rows].reset_index(drop=True),
        *(getattr(sample, name)[rows] for name in ("propensity", "decided_at", "outcome_at")),
    )


def differing(left: pd.DataFrame, right: pd.DataFrame) -> set[str]:
    """Names of the columns in which two frames differ."""
    return {name for name in left.columns if not left[name].equals(right[name])}


# What a seed determines


@ALL
def test_same_seeds_same_sample(contract: Contract) -> None:
    assert_same(World(contract, 3).sample(1000, seed=5), World(contract, 3).sample(1000, seed=5))


@ALL
def test_other_seeds_other_rows(contract: Contract) -> None:
    sample = World(contract, 3).sample(1000, seed=5)
    assert not sample.frame.equals(World(contract, 3).sample(1000, seed=6).frame)
    assert not sample.frame.equals(World(contract, 4).sample(1000, seed=5).frame)


def test_the_stream_does_not_change_the_truth() -> None:
    world = World(changed(LOAN, customer_spread=1.0), 1)
    first, second = (world.sample(50_000, seed=seed) for seed in (0, 1))
    for name in ("Family", "Education"):
        rates = [sample.propensity[sample.frame[name] == "1"].mean() for sample in (first, second)]
        assert rates[0] == pytest.approx(rates[1], abs=0.003)


def test_same_sample_in_another_process() -> None:
    program = """if True:
        import hashlib, sys
        import pandas as pd
        from offers.contract.contract import load
        from offers.simulation.world import World
        sample = World(load("bank-marketing"), 2).sample(9000, seed=1)
        hashes = pd.util.hash_pandas_object(sample.frame).to_numpy()
        parts = (hashes, sample.propensity, sample.decided_at, sample.outcome_at)
        print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())"""
    sample = World(BANK, 2).sample(9000, seed=1)
    hashes = pd.util.hash_pandas_object(sample.frame).to_numpy()
    parts = (hashes, sample.propensity, sample.decided_at, sample.outcome_at)
    here = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
    for hash_seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed}
        there = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
        assert there.stdout.strip() == here


@ALL
def test_a_stream_can_be_entered_anywhere(contract: Contract) -> None:
    world = World(contract)
    start = BLOCK - 100
    assert_same(world.sample(500, start=start), part(world.sample(start + 500), slice(start, None)))


# What the columns hold


@ALL
def test_frame_is_typed(contract: Contract) -> None:
    frame = World(contract).sample(3000).frame
    assert list(frame.columns) == [column.name for column in contract.columns]
    for column in contract.columns:
        dtype = frame[column.name].dtype
        if column.role == Role.TARGET:
            assert dtype == np.bool_
        elif column.type == "category":
            assert dtype == pd.CategoricalDtype(list(column.values))
        elif column.type == "date":
            assert dtype == "datetime64[ns]"
        elif column.type == "text":
            assert frame[column.name].map(type).eq(str).all()
        elif column.type == "number" or column.may_be_missing:
            assert dtype == np.float64
        else:
            assert dtype == (np.int64 if column.type == "integer" else bool)


@ALL
def test_values_keep_to_the_contract(contract: Contract) -> None:
    frame = World(contract).sample(20_000).frame
    for column in contract.columns:
        cells = frame[column.name]
        missing = cells.isna().mean()
        assert 0.01 < missing < 0.16 if column.may_be_missing else missing == 0
        if column.role == Role.IDENTIFIER:
            assert cells.is_unique
        if column.is_numeric:
            assert cells.min() >= (-np.inf if column.min is None else column.min)
            assert cells.max() <= (np.inf if column.max is None else column.max)
            assert cells.nunique() > 1
        if column.type == "integer":
            assert (cells.dropna() % 1 == 0).all()
        if column.type == "boolean":
            assert set(cells.dropna()) == {0, 1}


def test_marginals_are_the_typical_ones() -> None:
    frame = World(BANK).sample(40_000).frame
    for name in ("job", "marital", "education", "poutcome"):
        typical = BANK[name].typical
        expected = np.array([typical[value] for value in BANK[name].values]) / sum(typical.values())
        counts = frame[name].value_counts(sort=False).to_numpy()
        assert chisquare(counts, expected * len(frame)).pvalue > 0.001
    days = frame["day_of_week"].value_counts()
    assert chisquare(days).pvalue > 0.001
    for name in ("age", "campaign", "pdays", "previous"):
        np.testing.assert_allclose(frame[name].quantile([0.05, 0.95]), BANK[name].typical, atol=1)


def test_ranges_without_typical_values_are_filled() -> None:
    frame = World(MADE_UP).sample(20_000).frame
    whole = frame["tenure"].dropna() / 40
    assert ks_2samp(whole, np.linspace(0, 1, 20_000)).statistic < 0.03
    assert frame["rooms"].quantile([0.25, 0.75]).tolist() == pytest.approx([25, 75], abs=2)
    assert frame["newsletter"].mean() == pytest.approx(0.5, abs=0.02)


def test_a_missing_code_is_never_a_value() -> None:
    frame = World(MADE_UP).sample(20_000).frame
    assert 5.5 not in set(frame["rooms"])
    assert {5.4, 5.6} <= set(frame["rooms"])
    coded = with_column(MADE_UP, "region", missing=("west",))
    assert set(World(coded).sample(1000).frame["region"].dropna()) == {"north", "south"}


def test_identifying_numbers_begin_again_after_their_maximum() -> None:
    few = with_column(MADE_UP, "file number", max=149)
    numbers = World(few).sample(75).frame["file number"]
    assert numbers.tolist() == [*range(100, 150), *range(100, 125)]


def test_leakage_gives_the_outcome_away() -> None:
    sample = World(BANK).sample(20_000)
    accepted = sample.frame["y"]
    assert 0.85 < roc_auc_score(accepted, sample.frame["duration"]) < 0.95
    assert roc_auc_score(accepted, sample.frame["duration"]) > roc_auc_score(accepted, sample.propensity) + 0.05


def test_leakage_of_any_type() -> None:
    sample = World(MADE_UP).sample(5000)
    stage, signed = sample.frame["stage"].cat.codes, sample.frame["signé"]
    assert roc_auc_score(signed, stage) > 0.8
    np.testing.assert_array_equal(sample.frame["closed"], sample.outcome_at.astype("datetime64[D]"))


# What is true of it


@ALL
def test_outcomes_agree_with_true_propensities(contract: Contract) -> None:
    sample = World(contract).sample(60_000)
    accepted = sample.frame[contract.target.column].to_numpy()
    bins = np.array_split(np.argsort(sample.propensity, kind="stable"), 20)
    statistic = sum(
        (accepted[rows].sum() - sample.propensity[rows].sum()) ** 2
        / (sample.propensity[rows] * (1 - sample.propensity[rows])).sum()
        for rows in bins
    )
    assert 0.001 < chi2.sf(statistic, len(bins)) < 0.999


@ALL
@pytest.mark.parametrize("base_rate", [0.02, 0.4])
def test_mean_propensity_is_the_base_rate(contract: Contract, base_rate: float) -> None:
    rows = BLOCK * REFERENCE_BLOCKS
    propensity = World(changed(contract, base_rate=base_rate)).sample(rows).propensity
    # Both the world's reference customers, by whom it sets the intercept, and these ones are a sample.
    error = propensity.std() * np.sqrt(2 / rows)
    assert propensity.mean() == pytest.approx(base_rate, abs=4 * error)
    assert error < 0.05 * base_rate


@ALL
def test_customer_spread_is_in_logits(contract: Contract) -> None:
    propensity = World(changed(contract, customer_spread=0.8, period_spread=0.0)).sample(60_000).propensity
    assert logit(propensity).std() == pytest.approx(0.8, rel=0.03)


def test_period_spread_is_in_logits() -> None:
    sample = World(changed(BANK, customer_spread=0.0, period_spread=1.2, periods=26)).sample(60_000)
    levels = pd.Series(logit(sample.propensity)).groupby(sample.decided_at.astype("datetime64[M]"))
    assert (levels.max() - levels.min()).max() == pytest.approx(0, abs=1e-9)
    assert levels.first().nunique() == 26
    assert logit(sample.propensity).std() == pytest.approx(1.2, rel=0.01)
    assert levels.first().autocorr() > 0.4


def test_periods_do_not_matter_without_time() -> None:
    still, moved = (World(changed(LOAN, period_spread=spread)).sample(2000) for spread in (0.0, 2.0))
    assert_same(still, moved)


def test_a_world_without_customers_is_flat() -> None:
    sample = World(changed(LOAN, customer_spread=0.0)).sample(1000)
    np.testing.assert_allclose(sample.propensity, 0.1)


# Time


def months_of(sample: simulate.Sample) -> np.ndarray:
    return sample.decided_at.astype("datetime64[M]")


def test_months_follow_the_calendar() -> None:
    sample = World(BANK).sample(41_188)
    months = np.unique(months_of(sample))
    np.testing.assert_array_equal(months, np.arange("2008-05", "2010-07", dtype="datetime64[M]"))
    names = [MONTHS[month.astype(int) % 12] for month in months_of(sample)]
    assert sample.frame["month"].tolist() == names
    assert (np.diff(sample.decided_at) > np.timedelta64(0)).all()
    sizes = np.unique(months_of(sample), return_counts=True)[1]
    assert sizes.max() > 1.5 * sizes.min()


@pytest.mark.parametrize("rows", [1, 26, 1000])
def test_validation_reads_the_months_that_were_simulated(rows: int) -> None:
    sample = World(BANK).sample(rows)
    np.testing.assert_array_equal(periods(sample.frame, BANK), np.datetime_as_string(months_of(sample)))
    assert str(months_of(sample)[0]) == "2008-05"


def test_months_stop_at_the_end_of_the_timeline() -> None:
    short = BANK.model_copy(update={"time": BANK.time.model_copy(update={"until": "2008-08"})})
    assert set(World(short).sample(5000).frame["month"]) == {"may", "jun", "jul", "aug"}


def test_months_without_a_name_are_left_out() -> None:
    few = changed(with_column(BANK, "month", values=MONTHS[2:8] + MONTHS[9:]), periods=9)
    sample = World(few).sample(5000)
    names = sample.frame["month"].astype(str)
    runs = names[names != names.shift()].tolist()
    assert runs == ["may", "jun", "jul", "aug", "oct", "nov", "dec", "mar", "apr"]
    np.testing.assert_array_equal(periods(sample.frame, few), np.datetime_as_string(months_of(sample)))


def test_a_timeline_without_months_is_refused() -> None:
    winters = with_column(BANK, "month", values=MONTHS[:2])
    winters = winters.model_copy(update={"time": winters.time.model_copy(update={"until": "2008-08"})})
    with pytest.raises(ContractError, match=r"expected a month of .*'jan', 'feb'.* from 2008-05 to 2008-08"):
        World(winters).sample(100)


def test_dates_rise_from_the_first_of_2024() -> None:
    sample = World(MADE_UP).sample(3000)
    assert sample.frame["day"].is_monotonic_increasing
    np.testing.assert_array_equal(sample.frame["day"], sample.decided_at.astype("datetime64[D]"))
    np.testing.assert_array_equal(np.unique(months_of(sample)), np.arange("2024-01", "2025-04", dtype="datetime64[M]"))


@pytest.mark.parametrize("contract", [BANK, MADE_UP], ids=lambda contract: contract.name)
def test_context_is_constant_within_a_month_and_tells_months_apart(contract: Contract) -> None:
    sample = World(contract).sample(20_000)
    names = [column.name for column in contract.inputs if column.role == Role.CONTEXT]
    values = sample.frame[names].groupby(months_of(sample)).nunique()
    assert (values == 1).all(axis=None)
    number = next(name for name in names if contract[name].is_numeric)
    assert sample.frame[number].nunique() > 0.9 * len(values)


@ALL
def test_delays_are_skewed_and_end_at_maturity(contract: Contract) -> None:
    sample = World(contract).sample(20_000)
    days = (sample.outcome_at - sample.decided_at) / np.timedelta64(1, "D")
    longest = contract.target.matures_after_days
    assert days.min() >= 0
    assert 0.9 * longest < days.max() <= longest
    assert skew(days) > 1
    assert np.median(days) < days.mean() < longest / 3


def test_outcomes_that_mature_at_once_have_no_delay() -> None:
    at_once = BANK.model_copy(update={"target": BANK.target.model_copy(update={"matures_after_days": 0})})
    sample = World(at_once).sample(1000)
    np.testing.assert_array_equal(sample.outcome_at, sample.decided_at)


# Changes of the world


REGIMES = [
    RateShift(at=9001, logits=-0.7),
    CovariateShift(at=9001, column="income", sigmas=0.5),
    ShareShift(at=9001, column="plan", value="a;b", factor=2),
    ShareShift(at=9001, column="newsletter", value=True, factor=0.5),
    ConceptShift(at=9001, share=0.4),
]


@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: type(regime).__name__)
def test_nothing_changes_before_a_regime(regime: Any) -> None:
    still = World(MADE_UP).sample(12_000)
    moved = World(MADE_UP).sample(12_000, regimes=[regime])
    assert_same(part(moved, slice(9001)), part(still, slice(9001)))
    assert not part(moved, slice(9001, None)).frame.equals(part(still, slice(9001, None)).frame)
    later = World(MADE_UP).sample(2000, start=10_000, regimes=[regime])
    assert_same(later, part(moved, slice(10_000, None)))


def test_rate_shift_moves_every_logit() -> None:
    still = World(BANK).sample(3000)
    moved = World(BANK).sample(3000, regimes=[RateShift(1000, 0.5), RateShift(2000, -0.2)])
    expected = np.repeat([0.0, 0.5, 0.3], 1000)
    np.testing.assert_allclose(logit(moved.propensity) - logit(still.propensity), expected, atol=1e-9)
    assert differing(still.frame, moved.frame) <= {"y", "duration"}


def test_covariate_shift_moves_one_column_by_its_deviations() -> None:
    still = World(BANK).sample(20_000)
    moved = World(BANK).sample(20_000, regimes=[CovariateShift(10_000, "age", 0.5)])
    assert differing(still.frame, moved.frame) == {"age", "y", "duration"}
    by = moved.frame["age"] - still.frame["age"]
    assert (by[:10_000] == 0).all()
    assert by[10_000:].mean() == pytest.approx(0.5 * still.frame["age"].std(), rel=0.02)


def test_covariate_shifts_add_up() -> None:
    shifts = [CovariateShift(100, "rate", 1.0), CovariateShift(200, "rate", -3.0)]
    still, moved = World(MADE_UP).sample(300), World(MADE_UP).sample(300, regimes=shifts)
    by = (moved.frame["rate"] - still.frame["rate"]).to_numpy()
    sigma = by[100]
    assert sigma == pytest.approx(4.0 / (2 * 1.645), rel=0.01)  # a normal column, 90 % of it 4.0 wide
    np.testing.assert_allclose(by, np.repeat([0, sigma, -2 * sigma], 100), atol=0.002)


def test_customers_keep_their_law_when_covariates_shift() -> None:
    """Propensities after a covariate shift are those that the unshifted world gives to the same values."""
    flat = changed(LOAN, customer_spread=1.0)
    still = World(flat).sample(200_000)
    moved = World(flat).sample(200_000, regimes=[ShareShift(0, "Family", "1", 2.5)])
    for value in LOAN["Family"].values:
        rates = [sample.propensity[sample.frame["Family"] == value].mean() for sample in (still, moved)]
        assert rates[0] == pytest.approx(rates[1], rel=0.03)


def test_share_shift_doubles_a_rare_category() -> None:
    still = World(BANK).sample(200_000)
    moved = World(BANK).sample(200_000, regimes=[ShareShift(100_000, "marital", "unknown", 2)])
    assert {"marital"} <= differing(still.frame, moved.frame) <= {"marital", "y", "duration"}
    after = moved.frame["marital"][100_000:].value_counts()
    assert binomtest(after["unknown"], 100_000, 0.01).pvalue > 0.001
    others = ["married", "single", "divorced"]
    before = still.frame["marital"][100_000:].value_counts()
    assert chi2_contingency([before[others], after[others]]).pvalue > 0.001


def test_share_shift_ends_at_one() -> None:
    moved = World(LOAN).sample(1000, regimes=[ShareShift(0, "Online", True, 7), ShareShift(0, "Family", "2", 0)])
    assert moved.frame["Online"].all()
    assert "2" not in set(moved.frame["Family"])


def test_concept_shift_turns_customers_over() -> None:
    still = World(LOAN).sample(3000)
    turned = World(LOAN).sample(3000, regimes=[ConceptShift(1000, 1.0)])
    twice_intercept = logit(still.propensity) + logit(turned.propensity)
    assert twice_intercept[1000:].std() < 1e-9
    np.testing.assert_array_equal(turned.propensity[:1000], still.propensity[:1000])
    assert differing(still.frame, turned.frame) == {"Personal Loan"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_concept_shift_turns_at_least_its_share(share: float) -> None:
    still, turned = (World(LOAN).sample(50_000, regimes=r) for r in ([], [ConceptShift(0, share)]))
    correlation = np.corrcoef(logit(still.propensity), logit(turned.propensity))[0, 1]
    assert correlation < 1 - 2 * share + 0.02


def test_concept_shift_of_nothing_changes_nothing() -> None:
    assert_same(World(LOAN).sample(1000), World(LOAN).sample(1000, regimes=[ConceptShift(0, 0.0)]))


def test_a_stream_without_regimes_does_not_drift() -> None:
    frame = World(LOAN).sample(40_000).frame
    first, last = frame[:20_000], frame[20_000:]
    pvalues = [ks_2samp(first[name].dropna(), last[name].dropna()).pvalue for name in ("Age", "Income", "CCAvg")]
    for name in ("Family", "Education", "Online", "Personal Loan"):
        pvalues.append(chi2_contingency([part[name].value_counts().sort_index() for part in (first, last)]).pvalue)
    assert min(pvalues) > 0.001


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        (CovariateShift(0, "height", 1), "column 'height' can't be shifted, expected one of Age, .*CreditCard"),
        (CovariateShift(0, "ID", 1), "column 'ID' can't be shifted"),
        (CovariateShift(0, "Family", 1), "'Family' is of labels, expected a ShareShift of one of .*'4'"),
        (ShareShift(0, "Family", "5", 2), "'Family' is of labels, expected .* got ShareShift.*value='5'"),
        (ShareShift(0, "Family", "4", -1), "by a factor of at least 0, got .*factor=-1"),
        (ShareShift(0, "Age", "4", 2), "'Age' is numeric, expected a CovariateShift"),
    ],
)
def test_regimes_that_can_not_be(regime: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        World(LOAN).sample(10, regimes=[regime])


@pytest.mark.parametrize("arguments", [{"rows": 0}, {"rows": 5, "start": -1}, {"rows": 5, "seed": -1}])
def test_samples_that_can_not_be(arguments: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="needs rows >= 1, start >= 0 and seeds >= 0, got rows"):
        World(LOAN).sample(**arguments)


# Files


def with_decimal_comma(contract: Contract) -> Contract:
    form = contract.source.format.model_copy(update={"decimal": ","})
    return contract.model_copy(update={"source": contract.source.model_copy(update={"format": form})})


FILES = pytest.mark.parametrize(
    "contract",
    [BANK, LOAN, MADE_UP, with_decimal_comma(BANK), with_decimal_comma(LOAN)],
    ids=["bank-marketing", "personal-loan", "rental", "bank-marketing,", "personal-loan,"],
)


def read(contract: Contract, path: Path, **options: Any) -> pd.DataFrame:
    form = contract.source.format
    return pd.read_csv(path, sep=form.separator, quotechar=form.quote, encoding=form.encoding, **options)


@FILES
def test_a_file_holds_what_was_simulated(contract: Contract, tmp_path: Path) -> None:
    frame = World(contract).sample(3000).frame
    write_csv(frame, contract, tmp_path / "rows.csv")
    words = [column.name for column in contract.columns if column.type in ("text", "category")]
    words.append(contract.target.column)
    found = read(
        contract,
        tmp_path / "rows.csv",
        decimal=contract.source.format.decimal,
        dtype=dict.fromkeys(words, str),
        keep_default_na=False,
        na_values=[""],
    )
    assert list(found.columns) == list(frame.columns)
    for column in contract.columns:
        cells, expected = found[column.name], frame[column.name]
        if column.role == Role.TARGET:
            expected = expected.map({True: contract.target.positive, False: contract.target.negative})
        elif column.type == "category":
            expected = expected.astype(object)
        elif column.type == "date":
            expected = expected.dt.strftime("%Y-%m-%d")
        elif column.is_numeric and column.missing:
            expected = expected.fillna(float(column.missing[0].replace(",", ".")))
        np.testing.assert_array_equal(cells.isna(), expected.isna())
        known = cells.notna()
        assert (cells[known] == expected[known]).all(), column.name


@FILES
def test_a_file_can_be_ingested_like_the_real_one(contract: Contract, tmp_path: Path) -> None:
    frame = World(contract).sample(3000).frame
    write_csv(frame, contract, tmp_path / "rows.csv")
    raw = read(contract, tmp_path / "rows.csv", dtype="string[pyarrow]", keep_default_na=False, na_values=[""])
    validation = validate(raw, contract)
    assert [str(violation) for violation in validation.violations] == []
    assert_frame_equal(validation.frame, frame)


def test_a_file_is_written_in_the_form_of_its_contract(tmp_path: Path) -> None:
    frame = World(MADE_UP).sample(400).frame
    write_csv(frame, MADE_UP, tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_bytes().decode("latin-1").split("\n")
    assert lines[0] == ";".join(frame.columns)
    row = frame["plan"].tolist().index("a;b")
    cells = lines[1 + row].replace("'a;b'", "a b").split(";")
    number = frame["income"][row]
    assert cells[:4] == [str(row + 1), str(100 + row), f"{frame['day'][row]:%Y-%m-%d}", f"{number}".replace(".", ",")]
    assert cells[6] == "a b"
    assert cells[8] == str(int(frame["newsletter"][row]))
    assert cells[-1] == ("oui" if frame["signé"][row] else "non")
    missing = lines[1 + frame["tenure"].isna().tolist().index(True)].replace("'a;b'", "a b").split(";")
    assert missing[4] == "-1"


def test_large_files_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = World(BANK).sample(50).frame
    write_csv(frame, BANK, tmp_path / "whole.csv")
    monkeypatch.setattr(csv_writer, "CSV_ROWS", 7)
    write_csv(frame, BANK, tmp_path / "parts.csv")
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*can't be written"):
        write_csv(World(LOAN).sample(10).frame, LOAN, tmp_path / "nowhere" / "rows.csv")


# What learners make of it


def trees(
    contract: Contract, frame: pd.DataFrame, labels: np.ndarray, **parameters: Any
) -> Callable[[pd.DataFrame], np.ndarray]:
    """Fit XGBoost as a function from frames to propensities."""
    names = [column.name for column in contract.inputs]
    settings = {"n_estimators": 300, "max_depth": 4, "learning_rate": 0.03, "subsample": 0.8, "colsample_bytree": 0.3}
    learner = xgboost.XGBClassifier(enable_categorical=True, n_jobs=1, **(settings | parameters))
    fitted = learner.fit(frame[names], labels)
    return lambda rows: fitted.predict_proba(rows[names])[:, 1]


def regression(contract: Contract, frame: pd.DataFrame, labels: np.ndarray) -> Callable[[pd.DataFrame], np.ndarray]:
    """Fit a logistic regression: one-hot categories, standardised numbers and marks of missing ones."""
    words = [column.name for column in contract.inputs if column.type == "category"]
    numbers = [column.name for column in contract.inputs if column.type != "category"]
    fitted = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), words),
            (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        ),
        LogisticRegression(solver="liblinear"),
    ).fit(frame, labels)
    return lambda rows: fitted.predict_proba(rows)[:, 1]


def calibration_error(truth: np.ndarray, predicted: np.ndarray, bins: int = 10) -> float:
    """Mean distance of truth and prediction over bins of equal width, weighted by rows."""
    by_bin = pd.DataFrame({"truth": truth, "predicted": predicted}).groupby(np.minimum(predicted * bins, bins - 1) // 1)
    return float((by_bin.mean().diff(axis=1)["predicted"].abs() * by_bin.size()).sum() / len(truth))


@pytest.mark.slow
def test_trees_come_near_the_best_possible_ranking() -> None:
    contract = changed(BANK, customer_spread=0.65, period_spread=0.0)
    shuffled = np.random.default_rng(0).permutation(40_000)
    train, test = shuffled[:30_000], shuffled[30_000:]
    lost, gained, errors = [], [], []
    for seed in range(4):
        sample = World(contract, seed).sample(40_000)
        rows, labels, truth = sample.frame.iloc[test], sample.frame["y"].to_numpy(), sample.propensity[test]
        known = sample.frame.iloc[train], labels[train]
        boosted = trees(contract, *known, max_depth=3, colsample_bytree=0.6, max_cat_to_onehot=20)(rows)
        plain = regression(contract, *known)(rows)
        lost.append(roc_auc_score(labels[test], truth) - roc_auc_score(labels[test], boosted))
        gained.append(log_loss(labels[test], plain) - log_loss(labels[test], boosted))
        errors.append(calibration_error(truth, boosted))
    assert 0 < np.mean(lost) < 0.01
    assert min(gained) > 0
    assert max(errors) < 0.01


@pytest.mark.slow
def test_personal_loans_are_easy() -> None:
    sample = World(LOAN).sample(5000)
    labels = sample.frame["Personal Loan"].to_numpy()
    boosted, plain = np.empty(5000), np.empty(5000)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels):
        rows = sample.frame.iloc[train]
        fit = trees(LOAN, rows, labels[train], learning_rate=0.05, colsample_bytree=0.5)
        boosted[test] = fit(sample.frame.iloc[test])
        plain[test] = regression(LOAN, rows, labels[train])(sample.frame.iloc[test])
    assert roc_auc_score(labels, boosted) > 0.95
    assert log_loss(labels, boosted) < log_loss(labels, plain)


@pytest.mark.slow
def test_bank_contacts_behave_like_the_real_ones() -> None:
    """Refitted every 500 rows, a model holds over the last 40 % in time order; left alone, it decays."""
    contract = changed(BANK, customer_spread=0.65, period_spread=1.3)
    sample = World(contract).sample(41_188)
    frame, labels, first = sample.frame, sample.frame["y"].to_numpy(), 24_712
    boosted, plain = np.empty(len(frame)), np.empty(len(frame))
    for begin in range(first, len(frame), 500):
        train, test = slice(begin - 20_000, begin), slice(begin, begin + 500)
        boosted[test] = trees(contract, frame[train], labels[train])(frame[test])
        plain[test] = regression(contract, frame[train], labels[train])(frame[test])
    frozen = trees(contract, frame[first - 20_000 : first], labels[first - 20_000 : first])(frame[first:])
    late = pd.DataFrame({"label": labels, "propensity": boosted, "month": months_of(sample)})[first:]
    assert 0.75 < roc_auc_score(late["label"], late["propensity"]) < 0.82
    for third in np.array_split(np.arange(len(late)), 3):
        assert roc_auc_score(late["label"].iloc[third], late["propensity"].iloc[third]) > 0.62
    aucs = [(len(rows), roc_auc_score(rows["label"], rows["propensity"])) for _, rows in late.groupby("month")]
    sizes, within = np.array(aucs).T
    assert 0.60 < np.average(within, weights=sizes) < 0.70
    assert calibration_error(late["label"].to_numpy(), late["propensity"].to_numpy()) < 0.04
    assert log_loss(late["label"], late["propensity"]) < log_loss(late["label"], plain[first:])
    assert roc_auc_score(late["label"], frozen) < roc_auc_score(late["label"], late["propensity"]) - 0.08
