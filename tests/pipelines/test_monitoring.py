"""The monitoring pipeline from files to verdict, report, status and request, as one command and step by step."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cli import monitor
from offers.bundle import bundle as bundles
from offers.contract.sections import Retraining
from offers.decisions.period import Period
from offers.errors import DataError, ServiceError, SourceError
from offers.monitoring.findings import Monitoring
from offers.retraining.journal import Decision
from offers.retraining.retrainer import Retrainer
from offers.settings import Settings
from offers.simulation.shifts import ConceptShift, CovariateShift, RateShift, Regime
from offers.steps import monitoring
from offers.store.store import open_store
from pipelines.compilation import PIPELINES, compile_pipeline
from tests.support.ledgers import journal_at
from tests.support.live import LiveRows, live, train_club
from tests.support.trigger import Starts, served

BOTH = (CovariateShift(0, "income", 1.0), ConceptShift(0, 0.9))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_club(tmp_path_factory.mktemp("club")).bundle


@dataclass(frozen=True)
class Looked:
    """What the pipeline's steps have left; `directory` is the store as well."""

    judged: Monitoring
    directory: Path

    @property
    def verdict(self) -> Path:
        return self.directory / "verdict"

    @property
    def page(self) -> str:
        return (self.directory / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def look(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Looked]:
    """Take the pipeline's steps one after the other; the same look is taken once."""

    @cache
    def look(*regimes: Regime, rows: int = 3000, told: bool = True, since: str = "") -> Looked:
        directory, seen = tmp_path_factory.mktemp("look"), live(bundle, regimes, rows)
        settings, said = Settings(home=directory), list[str]()
        scored, outcomes = seen.write(directory)
        decisions, findings = directory / "decisions", directory / "findings"
        where = str(bundle), scored, outcomes if told else "", (since, "", seen.end)
        monitoring.collect(*where, decisions, settings, said.append)
        monitoring.inspect(str(bundle), decisions, findings, settings, said.append)
        paths = decisions, findings, directory / "verdict", directory / "report.html"
        return Looked(monitoring.judge(str(bundle), *paths, str(directory), settings, said.append), directory)

    return look


def test_nothing_is_asked_for_where_nothing_has_changed(look: Callable[..., Looked]) -> None:
    judged, page = look().judged, look().page
    assert judged.action == "none"
    assert judged.quiet
    assert judged.signals == {"data": False, "score": False, "performance": False}
    assert "Nothing to do" in page
    # Plotly's own script names its home page; the page loads nothing.
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=.(?!#)", markup)
    assert not re.search(r"<script[^>]*src", page)


def test_customers_that_change_are_data_drift_alone(look: Callable[..., Looked]) -> None:
    judged = look(BOTH[0]).judged
    assert judged.signals["data"]
    assert judged.signals["score"] is False
    assert any(reason.startswith("income is") for reason in judged.reasons)
    # Nobody is harmed: labels are what the scores promise.
    assert judged.action == "none"


def test_training_waits_its_time_and_an_update_fills_it(look: Callable[..., Looked], bundle: Path) -> None:
    found, contract = look(BOTH[0], RateShift(0, 1.0)).judged.findings, bundles.load(bundle).contract
    assert monitoring.decide(found, contract).action == "retrain"
    patient = contract.model_copy(update={"retraining": Retraining(cool_down=3001)})
    waiting = monitoring.decide(found, patient, layered=True)
    assert waiting.action == "update"
    assert monitoring.decide(found, patient).action == "none"
    assert any("until 3001 rows are scored since the last" in reason for reason in waiting.reasons)
    few = found.model_copy(update={"labels": found.labels.model_copy(update={"since_training": 99})})
    assert monitoring.decide(few, contract, layered=True).action == "none"


def test_choices_that_change_are_a_matter_of_performance_alone(look: Callable[..., Looked]) -> None:
    judged = look(BOTH[1]).judged
    assert judged.signals == {"data": False, "score": False, "performance": True}
    assert judged.findings.promise.ranks_hold is False
    # Ranks are lost, which no calibration mends.
    assert judged.action == "retrain"


def test_a_level_that_moves_while_ranks_hold_asks_for_an_update(look: Callable[..., Looked]) -> None:
    judged = look(RateShift(0, 1.0)).judged
    assert judged.signals == {"data": False, "score": False, "performance": True}
    assert judged.findings.promise.ranks_hold
    assert judged.action == "update"


def test_both_ask_for_a_new_model(look: Callable[..., Looked]) -> None:
    judged, page = look(*BOTH).judged, unescape(look(*BOTH).page)
    assert judged.signals == {"data": True, "score": False, "performance": True}
    assert judged.action == "retrain"
    for reason in judged.reasons:
        assert reason in page


def test_without_outcomes_performance_is_not_judged(look: Callable[..., Looked]) -> None:
    judged = look(*BOTH, told=False).judged
    assert judged.signals == {"data": True, "score": False, "performance": None}
    assert judged.action == "none"
    assert not judged.quiet
    assert "Look at the alarm: the reasons say why" in look(*BOTH, told=False).page
    assert any("too little is known to judge performance" in reason for reason in judged.reasons)
    assert judged.findings.labels.unlabelled == judged.findings.labels.mature > 0


def test_too_few_rows_alarm_nobody_and_say_so(look: Callable[..., Looked]) -> None:
    judged = look(*BOTH, rows=90).judged
    assert judged.signals == {"data": None, "score": None, "performance": None}
    assert judged.action == "none"
    assert "too little is known to judge data drift, score drift, performance" in judged.reasons
    assert "drift was not judged" in look(*BOTH, rows=90).page


def test_a_period_without_decisions_is_a_report_too(look: Callable[..., Looked]) -> None:
    judged = look(since="0.001m").judged
    assert judged.findings.quality.rows == 0
    assert judged.action == "none"
    assert "not judged" in look(since="0.001m").page


def test_a_page_of_many_windows_shows_the_newest(look: Callable[..., Looked]) -> None:
    looked = look(rows=7000)
    assert len(looked.judged.findings.drift.windows) == 14
    assert "the newest 12 have a column" in looked.page
    assert looked.page.count(f"{looked.judged.findings.drift.windows[-1].last:%H:%M}</small></th>") >= 4
    assert f"{looked.judged.findings.drift.windows[0].last:%H:%M}</small></th>" not in looked.page


def test_a_run_leaves_its_status_and_page_in_the_store(look: Callable[..., Looked]) -> None:
    looked = look(*BOTH)
    store = open_store(str(looked.directory), Settings())
    (key,) = (key for key in store.keys("monitoring/club/") if key.endswith(".json"))
    status = json.loads(store.read_bytes(key))
    assert (status["action"], status["signals"]) == ("retrain", looked.judged.signals)
    assert datetime.fromisoformat(status["as_of"]) == looked.judged.findings.as_of
    assert store.read_bytes(status["report"]).decode() == looked.page


def test_the_trigger_takes_the_request_once(look: Callable[..., Looked], tmp_path: Path) -> None:
    verdict, said, starts = look(*BOTH).verdict, list[str](), Starts()
    journal = journal_at(tmp_path, "club")
    with served(Retrainer(journal, starts)) as client:
        for _ in range(2):
            monitoring.request_retraining(verdict, str(client.base_url), said.append)
        with pytest.raises(ServiceError, match="expected the alarm to be taken, got 404"):
            monitoring.request_retraining(verdict, f"{client.base_url}/elsewhere", said.append)
    assert len(starts) == 1
    (decision,) = journal.entries()
    assert isinstance(decision, Decision)
    assert (decision.request.cause, decision.request.action) == ("alarm", "retrain")
    assert any("income" in reason for reason in decision.request.evidence["reasons"])
    assert said[0].startswith("started: drift was seen")
    with pytest.raises(ServiceError, match="expected a service that takes alarms"):
        monitoring.request_retraining(verdict, str(client.base_url), said.append)


def test_where_there_is_no_trigger_nobody_is_asked(look: Callable[..., Looked]) -> None:
    said = list[str]()
    monitoring.request_retraining(look(*BOTH).verdict, "", said.append)
    assert said == ["no trigger is named, so nobody was asked for a new model"]


@pytest.mark.parametrize("name", PIPELINES)
def test_no_step_is_taken_from_the_cache(name: str, tmp_path: Path) -> None:
    spec = next(yaml.safe_load_all(compile_pipeline(name, tmp_path / "pipeline.yaml").read_text()))
    parts = [spec["root"], *spec["components"].values()]
    tasks = {name: task for part in parts if "dag" in part for name, task in part["dag"]["tasks"].items()}
    steps = {name: task for name, task in tasks.items() if not name.startswith(("condition-", "for-loop-"))}
    assert len(steps) >= 3
    assert all(task["cachingOptions"] == {} for task in steps.values())


def test_retraining_is_gated_on_a_truth(tmp_path: Path) -> None:
    spec = next(yaml.safe_load_all(compile_pipeline("monitoring", tmp_path / "monitoring.yaml").read_text()))
    assert set(spec["components"]["comp-condition-1"]["dag"]["tasks"]) == {"request-retraining"}
    trigger = spec["root"]["dag"]["tasks"]["condition-1"]["triggerPolicy"]["condition"]
    assert trigger == "inputs.parameter_values['pipelinechannel--judge-Output'] == true"


def test_a_place_that_holds_bundles_stands_for_the_one_that_served(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows, settings = live(bundle, rows=100), Settings(home=tmp_path / "home")
    scored, _ = rows.write(tmp_path)
    period = Period.parse("", "", rows.end)

    def which(named: Path | str) -> str:
        return monitoring.which_bundle(str(named), scored, period, settings)

    assert which(bundle.parent) == str(bundle)
    assert which("s3://offers/bundles/") == f"s3://offers/bundles/{bundle.name}"
    copy = shutil.copytree(bundle, tmp_path / "home" / "bundles" / "copy")
    damaged = tmp_path / bundle.name
    damaged.mkdir()
    s3 = f"s3://offers/bundles/{bundle.name}"
    for named in (bundle, bundle.name, s3, copy, "copy", damaged, tmp_path / "absent"):
        assert which(named) == str(named)


@pytest.mark.parametrize("told", [False, True])
def test_old_days_are_read_where_a_training_would_wait_for_their_outcomes(
    bundle: Path, told: bool, tmp_path: Path
) -> None:
    rows, settings = live(bundle), Settings(home=tmp_path / "home")
    rows.outcomes.to_parquet(tmp_path / "outcomes.parquet", index=False)
    for day, part in rows.scored.groupby(rows.scored["scored_at"].dt.strftime("%Y-%m-%d")):
        (tmp_path / "scored" / str(day)).mkdir(parents=True)
        part.to_parquet(tmp_path / "scored" / str(day) / "a.parquet", index=False)
    outcomes = str(tmp_path / "outcomes.parquet") if told else ""

    def collected(where: str) -> monitoring.Collected:
        asked = str(bundle), str(tmp_path / where), outcomes, ("7d", "", rows.end)
        return monitoring.collect(*asked, tmp_path / "decisions" / where, settings, list[str]().append)

    (tmp_path / "whole").mkdir()
    rows.scored.to_parquet(tmp_path / "whole" / "rows.parquet", index=False)
    assert collected("scored") == collected("whole")
    read = len(pd.read_parquet(tmp_path / "decisions" / "scored" / monitoring.ROWS))
    needed = rows.scored["scored_at"] >= (pd.Timestamp(rows.end) - pd.Timedelta(days=7 + 10 + 1)).floor("D")
    assert read == (len(rows.scored) if told else needed.sum())
    assert 0 < needed.sum() < len(rows.scored)


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Result]:
    def command(*arguments: object) -> Result:
        home = {"OFFERS_HOME": str(tmp_path / "home")}
        return CliRunner().invoke(monitor.app, list(map(str, arguments)), env=home)

    return command


def ran(command: Callable[..., Result], bundle: Path, rows: LiveRows, directory: Path, *more: object) -> Result:
    scored, outcomes = rows.write(directory)
    where = "--bundle", bundle, "--scored", scored, "--outcomes", outcomes, "--as-of", rows.end
    return command("run", *where, *more)


@pytest.mark.slow
def test_the_command_runs_the_graph_and_asks_for_a_new_model(
    bundle: Path, command: Callable[..., Result], tmp_path: Path
) -> None:
    starts = Starts()
    with served(Retrainer(journal_at(tmp_path / "journal", "club"), starts)) as client:
        done = ran(command, bundle, live(bundle, BOTH), tmp_path, "--trigger", client.base_url)
    assert done.exit_code == 3, done.output
    assert len(starts) == 1
    for step in ("collect", "inspect", "judge", "request-retraining"):
        assert f"✓ {step}" in done.output
    assert "Retrain: the world is no longer the one that the model was trained on." in done.output
    run = next((tmp_path / "home" / "runs").iterdir())
    assert f"report  {run / 'report.html'}" in done.output
    assert "<html" in (run / "report.html").read_text("utf-8")
    assert command("status", "--contract", bundle / "contract.yaml", "--every", "36500d").exit_code == 0


@pytest.mark.slow
def test_quiet_rows_ask_nobody(bundle: Path, command: Callable[..., Result], tmp_path: Path) -> None:
    done = ran(command, bundle.parent, live(bundle), tmp_path, "--trigger", "http://127.0.0.1:9/nobody")
    assert done.exit_code == 0, done.output
    assert f"bundle  {bundle.name}\n" in done.output
    assert "request-retraining" not in done.output
    assert "Nothing to do" in done.output


@pytest.mark.slow
def test_a_mistake_in_the_rows_is_one_sentence(bundle: Path, command: Callable[..., Result], tmp_path: Path) -> None:
    rows = live(bundle)
    foreign = LiveRows(rows.scored.assign(bundle="club-0123456789abcdef"), rows.outcomes)
    done = ran(command, bundle, foreign, tmp_path)
    assert isinstance(done.exception, DataError)
    assert str(done.exception).startswith(f"expected rows scored by bundle {bundle.name}, got 3000 rows by club-0123")


def test_the_command_says_when_the_last_report_was(
    look: Callable[..., Looked], command: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    contract = "status", "--contract", bundle / "contract.yaml", "--store"
    never, where = command(*contract, tmp_path), (*contract, look().directory)
    assert never.exit_code == 3
    assert never.output == "The monitor of club has never reported, and should every 1 day.\n"
    late = command(*where)
    assert late.exit_code == 3
    assert "which is more than the 1 day agreed on: nothing to do" in late.output
    fine = command(*where, "--every", "36500d")
    assert fine.exit_code == 0
    scraped = command(*where, "--every", "36500d", "--format", "prometheus")
    assert 'offers_monitor_overdue{contract="club"} 0.0' in scraped.output


def test_a_command_without_rows_is_refused_before_anything_runs(
    bundle: Path, command: Callable[..., Result], tmp_path: Path
) -> None:
    done = command("run", "--bundle", bundle, "--scored", tmp_path / "nothing", "--since", "yesterday")
    assert isinstance(done.exception, DataError)
    assert "since 'yesterday': expected a moment" in str(done.exception)
    with pytest.raises(SourceError, match="expected scored rows as a Parquet file or a directory"):
        monitoring.collect(
            str(bundle), str(tmp_path / "nothing"), "", ("", "", ""), tmp_path / "d", Settings(home=tmp_path), print
        )
