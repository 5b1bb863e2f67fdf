"""The pages that need no services, whose figures are held against what the commands compute from the same records."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from cli.score import score
from offers.batch.allocation import allocate
from offers.batch.campaign import load
from offers.batch.exposure import Segments
from offers.batch.pairs import read_scored
from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.decisions.period import Period
from offers.experiments import experiment as experiments
from offers.experiments.comparison import compare
from offers.experiments.members import members
from offers.governance import release as releases
from offers.monitoring.findings import Monitoring
from offers.policy import catalogue as catalogues
from offers.reports.experiment import headline
from offers.retraining.journal import Decision, Request
from offers.settings import Settings
from offers.simulation.shifts import CovariateShift
from offers.steps import monitoring
from offers.store.delta import DeltaTables
from tests.support.experiment_log import logged
from tests.support.ledgers import journal_at
from tests.support.live import live, train_club
from tests.support.pages import BY_AXE, IN_A_BROWSER, PATIENCE, cells, look, started, violations
from tests.support.shop import SHOP
from tests.support.warranties import WARRANTIES

pytestmark = IN_A_BROWSER
LATER = (datetime.now(UTC) + timedelta(days=400)).isoformat()
WEEK = """\
name: week
capacity:
  - {name: letters, where: {channel: mail}, contacts: 40}
  - {name: calls, where: {channel: phone}, contacts: 20}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shop_bundle: Path) -> Path:
    """What a bank has left: the log of an experiment, and scored customers with a campaign beside them."""
    home = tmp_path_factory.mktemp("home")
    learn, night = home / "learn-1", home / "night-1"
    learn.mkdir()
    (learn / "candidate.yaml").write_text(WARRANTIES.replace("value: 30", "value: 31"))
    (learn / "experiment.yaml").write_text("name: e\narms: [{name: a, share: 0.5, catalogue: candidate.yaml}]\n")
    logged(contracts.parse(SHOP), learn, learn / "experiment.yaml")
    release = releases.make(home / "releases", shop_bundle, WARRANTIES)
    night.mkdir()
    (night / "week.yaml").write_text(WEEK)
    customers = pd.read_parquet(shop_bundle / "reference.parquet")
    customers.assign(customer_id=range(len(customers))).to_parquet(night / "customers.parquet")
    where = str(night / "customers.parquet"), str(night / "scored"), str(shop_bundle)
    score(*where, str(release.path / "catalogue.yaml"), pairs=True)
    return home


@pytest.fixture(scope="module")
def judged(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Monitoring:
    """A monitoring run on members of a club who have changed, and a request that came of it."""
    made, directory = train_club(tmp_path_factory.mktemp("club")).bundle, tmp_path_factory.mktemp("look")
    bundle = home / "bundles" / bundles.load(made).name
    shutil.copytree(made, bundle)
    settings, seen = Settings(home=home), live(bundle, [CovariateShift(0, "income", 1.0)])
    decisions, findings = directory / "decisions", directory / "findings"
    monitoring.collect(str(bundle), *seen.write(directory), ("", "", seen.end), decisions, settings)
    monitoring.inspect(str(bundle), decisions, findings, settings)
    paths = decisions, findings, directory / "verdict", directory / "report.html"
    found = monitoring.judge(str(bundle), *paths, str(home), settings)
    request = Request(id="1", contract="club", cause="alarm", evidence={"reasons": found.reasons})
    moment = found.findings.as_of + timedelta(minutes=1)
    journal = journal_at(home / "demo-1", "club", lambda: moment)
    decision = Decision(at=moment, request=request, started=True, reason="two signals", run="run-7")
    journal.decide(request, lambda history: decision)
    journal.ended("run-7", succeeded=True, bundle="bundles/club-0123")
    return found


@pytest.fixture(scope="module")
def url(home: Path, judged: Monitoring) -> Iterator[str]:
    with started(home) as url:
        yield url


def stripped(page: Page, place: int) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in cells(page, place)]


def test_the_arms_stand_as_the_command_compares_them(browser: Browser, home: Path, url: str) -> None:
    page = look(browser, f"{url}/experiments", "Experiments")
    _, control, arm = stripped(page, 0)
    experiment = experiments.load(str(home / "learn-1" / "experiment.yaml"))
    tables = DeltaTables.at(str(home / "learn-1" / "tables"), Settings())
    people = members(tables, "e", Period.parse("", "", LATER))
    comparison = compare(people.customers, experiment.shares, people.protected, experiment.members(people.everybody))
    (result,) = comparison.arms
    lift = [f"{100 * one:+.1f}" for one in (result.lift.value, result.lift.low, result.lift.high)]
    assert arm[5] == f"{lift[0]} % ({lift[1]} to {lift[2]})"
    assert arm[6].startswith(f"{result.earned_more.value:+.2f} (")
    assert (control[2], arm[2]) == (f"{comparison.control[0]:,}", f"{result.customers:,}")
    expect(page.get_by_text(headline(comparison)).first).to_be_visible()
    # The candidate beside the log is held against it.
    expect(page.get_by_text("candidate and log agree on").first).to_be_visible(timeout=PATIENCE)
    page.close()


def test_a_campaign_is_planned_as_the_command_plans_it_and_again_when_a_limit_moves(
    browser: Browser, home: Path, url: str
) -> None:
    catalogue = catalogues.parse(WARRANTIES, contracts.parse(SHOP))
    limits = load(WEEK, catalogue.offers)[1]
    with read_scored(str(home / "night-1" / "scored"), catalogue, Segments(()), Settings(), home) as pairs:
        plan = allocate(pairs.scores, limits)
        tighter = allocate(pairs.scores, load(WEEK.replace("40", "39"), catalogue.offers)[1])
    page = look(browser, f"{url}/campaign", "Campaign")
    value, bound = page.get_by_test_id("stMetricValue").first, page.get_by_test_id("stMetricValue").nth(2)
    expect(value).to_have_text(f"{plan.value:,.2f} EUR", timeout=PATIENCE)
    expect(bound).to_have_text(f"{plan.pricing.bound:,.2f} EUR")
    prices = [row[4] for row in stripped(page, 0)[1:]]
    assert prices == [f"{price:.2f}" for price in plan.pricing.prices]
    page.get_by_role("slider", name="letters, contacts").press("ArrowLeft")
    expect(value).to_have_text(f"{tighter.value:,.2f} EUR", timeout=PATIENCE)
    page.close()


def test_drift_verdict_and_retraining_stand_as_they_were_recorded(
    browser: Browser, judged: Monitoring, url: str
) -> None:
    page = look(browser, f"{url}/watch", "Watch")
    expect(page.get_by_text(judged.reasons[-1][:40]).first).to_be_visible(timeout=PATIENCE)
    page.get_by_text("All columns in the last window").click()
    head, first, *_ = stripped(page, 0)
    assert head[0] == "column"
    (income,) = (one for one in judged.findings.drift.windows[-1].report["columns"] if one["name"] == "income")
    assert first[:3] == ["income", "KS", f"{income['ks']:.3f}"]
    end, begin, verdict = stripped(page, 1)[1:4]
    assert [end[1], begin[1:3]] == ["end of a run", ["retraining", "run-7 begins"]]
    assert (verdict[1], verdict[2].partition(";")[0]) == (
        "verdict",
        "look" if judged.action == "none" else judged.action,
    )
    labels = stripped(page, 2)[1]
    performance = judged.findings.performance
    assert performance is not None
    assert labels[2:4] == [f"{performance.rate.observed:.1%}", f"{performance.rate.expected:.1%}"]
    page.close()


@BY_AXE
@pytest.mark.parametrize("name", ["Watch", "Experiments", "Campaign"])
def test_axe_finds_nothing_serious_on_the_pages_of_records(browser: Browser, url: str, name: str) -> None:
    assert violations(browser, f"{url}/{name.lower()}", name) == []
