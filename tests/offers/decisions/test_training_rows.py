from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.data.dataset import Dataset
from offers.data.periods import PERIOD, periods
from offers.data.validation import time_violations, validate
from offers.decisions import log, training_rows
from offers.decisions.records import DECISIONS
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import DataError, SourceError
from offers.evaluation.gate import GateVerdict
from offers.settings import Settings
from offers.steps import data as steps
from offers.store.delta import DeltaTables
from tests.support.decision_log import answered, outcome, policy_event
from tests.support.rankers import CROWD, EXPLORING, someone
from tests.support.runs import train_file

DAY = timedelta(days=1)
FIRST = datetime(2025, 2, 27, 12, tzinfo=UTC)
MATURE = FIRST + 40 * DAY
OFFERED = ["A", "B", "C", "F"]


@pytest.fixture(scope="session")
def patient(shop_yaml: str) -> str:
    """The shop's contract, where an outcome is awaited for a month."""
    return shop_yaml.replace("positive: ja, negative: nein", "positive: ja, negative: nein, matures_after_days: 30")


@pytest.fixture
def spool(patient: str, tmp_path: Path) -> Spool:
    """A request on each of three days about six customers, two of whom get no offer."""
    contract, spool = contracts.parse(patient), Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(contract))
    for day in range(3):
        answer = answered(contract, CROWD, first_id=100 * day, decided_at=FIRST + day * DAY, seed=day)
        spool.append(log.decided(answer))
    return spool


def shipped(spool: Spool, directory: Path) -> str:
    spool.seal()
    assert not [one for one in ship(spool.directory, DeltaTables.at(str(directory), Settings())) if one.refusal]
    return str(directory)


def told(decision: int, kind: str, observed_at: datetime) -> dict[str, str]:
    return outcome(f"{decision:032x}", kind) | {"observed_at": observed_at.isoformat()}


def observe(spool: Spool, received_at: datetime, *outcomes: dict[str, str]) -> None:
    spool.append(log.observed(outcomes, received_at, "r"))


@pytest.mark.parametrize("kind", ["csv", "parquet", "typed.parquet"])
def test_decisions_stand_behind_a_history_of_any_kind(
    patient: str, spool: Spool, shop_rows: Callable[..., pd.DataFrame], tmp_path: Path, kind: str
) -> None:
    contract, path = contracts.parse(patient), tmp_path / f"orders.{kind}"
    rows = shop_rows(400)
    if kind == "csv":
        rows.to_csv(path, sep=";", index=False)
    elif kind == "parquet":
        rows.to_parquet(path)
    else:
        typed = validate(rows, contract).frame
        typed.assign(bought=np.where(typed["bought"], "ja", "nein")).to_parquet(path)
    observe(spool, FIRST + 2 * DAY, told(0, "accepted", FIRST + DAY), told(101, "declined", FIRST + DAY * 2))
    where = shipped(spool, tmp_path / "tables")
    ingested = training_rows.ingest(contract, Settings(), f"{path} + decisions:{where}", MATURE)
    assert ingested.origin == f"{path} + decisions:{where}"
    checked = validate(ingested.frame, contract)
    assert checked.violations == ()
    frame, history = checked.frame, validate(rows, contract).frame
    both, alone = Dataset.prepare(frame, contract), Dataset.prepare(history, contract)
    assert len(both) == 400 + 3 * len(OFFERED)
    first = Dataset(both.frame[:400], both.labels[:400], both.periods[:400])
    assert first.fingerprint(contract) == alone.fingerprint(contract)
    assert both.periods[400:].tolist() == ["2025-02"] * 8 + ["2025-03"] * 4
    assert both.labels[400:].tolist() == [1] + [0] * 11
    behind = frame[400:].reset_index(drop=True)
    assert behind["minutes"].isna().all()
    assert behind["spending"][0] == CROWD[0]["customer"]["spending"]
    assert behind["region"][1] == "south"
    assert pd.isna(behind["region"][3])
    assert set(behind["channel"]) <= {"mail", "phone", "web"}


def test_what_is_told_later_changes_nothing_earlier(patient: str, spool: Spool, tmp_path: Path) -> None:
    contract = contracts.parse(patient)
    observe(spool, FIRST + 10 * DAY, told(0, "accepted", FIRST + DAY), told(100, "accepted", FIRST + 3 * DAY))
    as_of = FIRST + 31 * DAY
    tables = DeltaTables.at(shipped(spool, tmp_path / "tables"), Settings())
    before = training_rows.decided(tables, contract, as_of)[0]
    assert before["bought"].tolist() == [True, False, False, False, True, False, False, False]
    generator = np.random.default_rng(0)
    later = Spool(tmp_path / "later", "other", SpoolLimits())
    for decision in (*range(6), *range(100, 106), *range(200, 206)):
        kind = str(generator.choice(["accepted", "declined", "clicked"]))
        # Observed in time and told too late, or observed too late.
        observed_at = FIRST + generator.integers(3, 60) * DAY
        observe(later, max(observed_at, as_of) + DAY, told(decision, kind, observed_at))
    later.append(log.decided(answered(contract, CROWD, 300, as_of + DAY)))
    shipped(later, tmp_path / "tables")
    pd.testing.assert_frame_equal(training_rows.decided(tables, contract, as_of)[0], before)
    assert set(training_rows.decided(tables, contract, as_of + 60 * DAY)[0]["bought"]) == {True, False}


def test_of_decisions_those_that_were_seen_count_where_anybody_tells(
    patient: str, spool: Spool, tmp_path: Path
) -> None:
    observe(spool, FIRST + DAY, told(1, "presented", FIRST), told(2, "accepted", FIRST + DAY))
    tables = DeltaTables.at(shipped(spool, tmp_path / "tables"), Settings())
    rows = training_rows.decided(tables, contracts.parse(patient), MATURE)[0]
    assert rows["bought"].tolist() == [False, True]


def test_months_alone_go_by_the_moment_of_a_decision() -> None:
    contract = contracts.load("bank-marketing")
    months = ["may", "nov", "mar", "nov", "dec"]
    logged = pd.Series([None, None, None, "2026-11", "2026-12"], dtype="string[pyarrow]")
    frame = pd.DataFrame({"month": months, PERIOD: logged})
    assert periods(frame, contract).tolist() == ["2008-05", "2008-11", "2009-03", "2026-11", "2026-12"]
    assert not list(time_violations(frame, contract))
    early = frame.assign(**{PERIOD: logged.replace("2026-11", "2007-01")})
    assert "after the history" in str(next(time_violations(early, contract)))


def test_the_log_alone_is_a_source_and_an_empty_one_is_refused(patient: str, spool: Spool, tmp_path: Path) -> None:
    contract = contracts.parse(patient)
    observe(spool, FIRST + DAY, told(0, "accepted", FIRST + DAY))
    source = f"decisions:{shipped(spool, tmp_path / 'tables')}"
    ingested = training_rows.ingest(contract, Settings(), source, MATURE)
    assert validate(ingested.frame, contract).violations == ()
    with pytest.raises(DataError, match="expected decisions whose outcome is known, found none"):
        training_rows.ingest(contract, Settings(), source, FIRST + DAY)
    with pytest.raises(SourceError, match="expected a Delta table, found none"):
        training_rows.ingest(contract, Settings(), f"decisions:{tmp_path}/nothing")


def test_a_decision_weighs_by_the_inverse_of_its_chance_where_that_is_asked_for(patient: str, tmp_path: Path) -> None:
    weighing = f"{patient}\nweight: times\n".replace(
        "columns:\n", "columns:\n  - {name: times, role: weight, type: number}\n"
    )
    contract, spool = contracts.parse(weighing), Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(contract, EXPLORING))
    answer = answered(contract, CROWD, decided_at=FIRST, catalogue=EXPLORING)
    spool.append(log.decided(answer))
    observe(spool, FIRST + DAY, told(0, "accepted", FIRST + DAY))
    where = f"decisions:{shipped(spool, tmp_path / 'tables')}"
    first = [offers[0] for sent in answer.answers if (offers := orjson.loads(sent)["offers"])]
    inverse = [1 / offer["action_probability"] for offer in first]
    assert max(inverse) > 2
    rows = training_rows.ingest(contract, Settings(), f"{where}?weight=inverse", MATURE)
    checked = validate(rows.frame, contract)
    assert checked.violations == ()
    np.testing.assert_allclose(Dataset.prepare(checked.frame, contract).weights, inverse, rtol=1e-6)
    plain = validate(training_rows.ingest(contract, Settings(), where, MATURE).frame, contract).frame
    assert set(Dataset.prepare(plain, contract).weights) == {1.0}
    with pytest.raises(DataError, match="expects a column with role weight, and there is none"):
        training_rows.ingest(contracts.parse(patient), Settings(), f"{where}?weight=inverse", MATURE)
    assert "left out" not in rows.origin
    tables = DeltaTables.at(str(tmp_path / "tables"), Settings())
    logged = tables.open(DECISIONS).to_pyarrow_table()
    row = next(one for one in logged.to_pylist() if one["offer_id"])
    for pair in row["pairs"]:
        pair["action_probability"] = 0.0
    tables.open(DECISIONS).delete(f"decision_id = '{row['decision_id']}'")
    tables.append(DECISIONS, pa.Table.from_pylist([row | {"writer": "foreign"}], logged.schema), "foreign", 0)
    fewer = training_rows.ingest(contract, Settings(), f"{where}?weight=inverse", MATURE)
    assert len(fewer.frame) == len(rows.frame) - 1
    assert "1 decision left out" in fewer.origin


def test_a_source_names_the_moment_whose_knowledge_counts(patient: str, tmp_path: Path) -> None:
    contract, spool = contracts.parse(patient), Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(contract))
    spool.append(log.decided(answered(contract, CROWD, decided_at=FIRST)))
    where = f"decisions:{shipped(spool, tmp_path / 'tables')}"
    wanted = training_rows.ingest(contract, Settings(), where, MATURE).frame
    named = f"{where}?as_of={MATURE.replace(tzinfo=None).isoformat()}"
    pd.testing.assert_frame_equal(training_rows.ingest(contract, Settings(), named, FIRST).frame, wanted)
    with pytest.raises(DataError, match="expected decisions whose outcome is known"):
        training_rows.ingest(contract, Settings(), f"{where}?as_of={FIRST.date()}", MATURE)
    for wrong in ("as_of=", "as_of=soon", "as_of=2024-13-01", "weight=2", "x"):
        with pytest.raises(SourceError, match=rf"got '{wrong}'"):
            training_rows.ingest(contract, Settings(), f"{where}?{wrong}", MATURE)


def test_the_step_keeps_what_lasts_of_the_origin(patient: str, spool: Spool, tmp_path: Path) -> None:
    where = shipped(spool, tmp_path / "tables")
    (tmp_path / "orders.csv").write_text("")
    for source, origin in [
        (f"{tmp_path}/orders.csv + decisions:{where}", "orders.csv + decisions:tables"),
        (f"decisions:{where}", "decisions:tables"),
        ("simulated:1:5 + decisions:s3://bucket/a", "simulated:1:5 + decisions:s3://bucket/a"),
        (f"{tmp_path}/orders.csv", "orders.csv"),
    ]:
        assert steps._lasting(source) == origin


@pytest.mark.slow
def test_a_model_of_history_and_decisions_passes_the_gate(
    patient: str, shop_rows: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    contract, generator = contracts.parse(patient), np.random.default_rng(5)
    shop_rows(3000).to_csv(tmp_path / "orders.csv", sep=";", index=False)
    spool = Spool(tmp_path / "spool", "pod", SpoolLimits())
    spool.append(policy_event(contract))
    crowd = [someone(f"c{k}", spending=float(x), visits=3) for k, x in enumerate(generator.uniform(0, 2000, 1000))]
    answer = answered(contract, crowd, decided_at=FIRST)
    spool.append(log.decided(answer))
    channels = {"basic": "mail", "full": "phone", "free": "web"}
    accepted = list[dict[str, str]]()
    for place, (someone_there, sent) in enumerate(zip(crowd, answer.answers, strict=True)):
        offers = orjson.loads(sent)["offers"]
        web = bool(offers) and channels[offers[0]["offer_id"]] == "web"
        # The truth of the shop's rows.
        propensity = 1 / (1 + np.exp(1 - someone_there["customer"]["spending"] / 1000 - web))
        if offers and generator.random() < propensity:
            accepted.append(told(place, "accepted", FIRST + DAY))
    observe(spool, FIRST + 2 * DAY, *accepted)
    where = shipped(spool, tmp_path / "tables")
    run = train_file(tmp_path, patient, f"{tmp_path / 'orders.csv'} + decisions:{where}")
    data = bundles.load(run.bundle).manifest.data
    offered = sum(bool(orjson.loads(sent)["offers"]) for sent in answer.answers)
    assert (data.rows, data.origin) == (3000 + offered, "orders.csv + decisions:tables")
    assert data.last_period == "2025-02"
    assert GateVerdict.model_validate_json(run.verdict.read_text()).passed
