"""Experiments: what each arm earned more than the control, and what a candidate catalogue would have earned."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import streamlit as st

from offers.contract.contract import Contract
from offers.decisions import history
from offers.decisions.period import Period
from offers.decisions.pieces import Pieces, Sample
from offers.decisions.records import DECISIONS, OUTCOMES
from offers.errors import DataError, OffersError, PolicyError
from offers.experiments import evidence as evidences
from offers.experiments import experiment as experiments
from offers.experiments.comparison import Comparison, Interval, compare
from offers.experiments.evidence import Evidence
from offers.experiments.experiment import Experiment
from offers.experiments.members import members
from offers.experiments.off_policy import Difference
from offers.policy import catalogue as catalogues
from offers.reports import charts
from offers.reports import experiment as reports
from offers.reports.evidence import told
from offers.settings import Settings
from offers.store.delta import DeltaTables
from serving.app import kept
from serving.app.place import bundles, loaded, running
from serving.app.screen import advice, chart, part, plain, report_table, table, uploaded

T = TypeVar("T")
Moments = tuple[str, str, str]
Proof = tuple[Evidence, list[str]]
"""The evidence about a candidate, and what it says in sentences."""
DAYS = 30
"""Within which exploration is to give an answer, as 'offers policy evaluate' has it."""
SAMPLE = 20_000
"""Decisions on which a candidate is evaluated at most; 'offers policy evaluate' reads all."""
AS_LOGGED = "those in the log"


def page() -> None:
    """Show the page."""
    st.title("Experiments")
    logs = logs_of(Settings.from_env())
    if not logs:
        advice("There is no decision log with decisions yet. 'make learn' fills one by simulation.", "make learn")
        return
    log = st.selectbox("Decision log", logs, format_func=kept.below_home) or logs[0]
    with st.expander("Period"):
        since = st.text_input("Decisions since, in UTC", help=plain("2026-05-31, 2026-05-31T12:00Z, or a span: 30d"))
        until = st.text_input("Decisions until, in UTC")
        as_of = st.text_input("Outcomes known at, in UTC", help=plain("Outcomes that came later do not count."))
    moments = (since, until, as_of)
    st.header("Arms")
    _arms(log, moments)
    st.header("A candidate catalogue")
    _candidate(log, moments)


def logs_of(settings: Settings) -> list[str]:
    """List the decision logs; those of experiments stand first, since they fill the page."""
    services = running(settings)
    logs = kept.logs(settings, services.tables if services else "")
    return sorted(logs, key=lambda log: not kept.experiments_beside(log))


def look_ahead() -> None:
    """Compare the arms that the page shows first before anybody asks; who opens the page meanwhile waits for it."""
    with suppress(OffersError, OSError):
        for log in logs_of(Settings.from_env())[:1]:
            for experiment in list(kept.experiments_beside(log).values())[:1]:
                arms_of(log, experiment, ("", "", ""))


def arms_of(log: str, experiment: Experiment, moments: Moments) -> tuple[Comparison, list[str]]:
    """Compare the arms with what is known by now."""
    asked, at = experiment.model_dump_json(), version(log)
    matures = contract_of(log, at).target.matures_after_days
    return known(lambda late: compared(log, at, asked, late), moments, matures, lambda pair: pair[0].control[0] > 0)


@part
def _arms(log: str, moments: Moments) -> None:
    found = kept.experiments_beside(log)
    file = st.file_uploader("File of another experiment", ("yaml", "yml"), key="experiment file")
    if file is not None:
        found = {file.name: experiments.load(uploaded(file))} | found
    if not found:
        advice("No experiment runs on this log, and no file of one lies beside it.", "offers experiment start FILE")
        return
    experiment = found[st.selectbox("Experiment", list(found), key="experiment") or next(iter(found))]
    if len(experiment.shares) < 2:
        raise PolicyError(f"{experiment.name}: shadows answer nobody, so there is nothing to compare")
    comparison, notes = arms_of(log, experiment, moments)
    st.markdown(f"**{plain(reports.headline(comparison))}**")
    report_table(reports.outcome_table(comparison, experiment.shares))
    intervals(reports.earned_more(comparison), reports.EARNED_MORE, "arms")
    for note in notes:
        st.markdown(f"- {plain(note)}")
    st.subheader("Guardrails")
    report_table(reports.guardrail_table(comparison))


@part
def _candidate(log: str, moments: Moments) -> None:
    settings, contract = Settings.from_env(), contract_of(log, version(log))
    texts = {path.name: path.read_text("utf-8") for path in kept.candidates_beside(log)}
    file = st.file_uploader("Candidate catalogue", ("yaml", "yml"), key="candidate file")
    if file is not None:
        texts = {file.name: uploaded(file)} | texts
    if not texts:
        advice("Upload a catalogue: the log tells what it would have earned more, or less, than what decided.")
        return
    name = st.selectbox("Candidate", list(texts), key="candidate") or next(iter(texts))
    scorers = [path.name for path in bundles(settings) if path.name.startswith(f"{contract.name}-")]
    scorer = st.selectbox("Propensities", [AS_LOGGED, *scorers], key="scorer") or AS_LOGGED
    bundle = "" if scorer == AS_LOGGED else str(settings.home / "bundles" / scorer)
    proof, told_lines = known(
        lambda late: held_against(log, version(log), (name, texts[name]), bundle, late),
        moments,
        contract.target.matures_after_days,
        lambda _: True,
    )
    verdict, by_place = proof.verdict, proof.by_place
    # What told() aligns by spaces are tables, which the page shows as such.
    lines = [line for line in told_lines if "   " not in line]
    st.markdown(f"**{plain(next((line for line in lines if line.startswith('verdict: ')), lines[-1]))}**")
    if verdict.differences:
        _differences(list(verdict.differences.items()), "method", "candidate")
    for line in lines:
        if not line.startswith("verdict: "):
            st.markdown(f"- {plain(line)}")
    if verdict.differences and not isinstance(by_place, str):
        st.subheader("By place of the answer")
        gains = [(str(one.place), one.difference) for one in by_place.places if one.difference is not None]
        _differences([*gains, *([("all", by_place.total)] if by_place.total else [])], "place", "places")
        for one in by_place.places:
            if one.difference is None:
                st.markdown(f"- {plain(f'place {one.place} is refused: {one.refusal}, and no model speaks for them')}")


def _differences(rows: Sequence[tuple[str, Difference]], noun: str, key: str) -> None:
    cells = [(name, f"{gain.value:+.3f}", f"{gain.low:+.3f} to {gain.high:+.3f}") for name, gain in rows]
    table((noun, "more than the log, EUR per decision", "95 % interval, EUR"), cells)
    intervals(rows, "more than the log, EUR per decision", key)


def known(ask: Callable[[Moments], T], moments: Moments, days: float, enough: Callable[[T], bool]) -> T:
    """Ask with the outcomes known by now; where none is final, as if nothing more came until all of them are.

    Parameters
    ----------
    ask : answers for since, until and as-of
    days : after which an outcome is final
    """
    since, until, as_of = moments
    # The hour is part of what is asked, so that an answer of long ago is not shown as today's.
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    if as_of:
        return ask(moments)
    try:
        answer = ask((since, until, now.isoformat()))
        if enough(answer):
            return answer
    except DataError:
        pass
    final = (now + timedelta(days=days)).isoformat()
    answer = ask((since, until, final))
    st.warning(plain(f"No outcome is final yet: these figures hold if none comes until {final[:16]} UTC."))
    return answer


def version(log: str) -> tuple[int, int]:
    """Tell the versions of a log's decisions and outcomes, -1 where there is none."""
    tables = DeltaTables.at(log, Settings.from_env())
    decisions, outcomes = (tables.open(name).version() if tables.holds(name) else -1 for name in (DECISIONS, OUTCOMES))
    return decisions, outcomes


@st.cache_resource(max_entries=8, show_spinner="The log is read ...")
def compared(log: str, at: tuple[int, int], experiment: str, moments: Moments) -> tuple[Comparison, list[str]]:
    """Compare the arms as 'offers experiment report' does, with its notes; once for a version of the log."""
    plan = Experiment.model_validate_json(experiment)
    people = members(DeltaTables.at(log, Settings.from_env()), plan.name, Period.parse(*moments), pieces=pieces_of(log))
    assigned = plan.members(people.everybody)
    comparison = compare(people.customers, plan.shares, people.protected, assigned)
    return comparison, list(reports.notes(people, comparison))


@st.cache_resource(max_entries=8, show_spinner="The log is read ...")
def held_against(log: str, at: tuple[int, int], file: tuple[str, str], bundle: str, moments: Moments) -> Proof:
    """Hold a candidate against the log as 'offers policy evaluate --sample' does; once for a version of the log."""
    judge, period = loaded(bundle) if bundle else None, Period.parse(*moments)
    contract = judge.contract if judge else contract_of(log, at)
    proof = evidences.evidence(
        DeltaTables.at(log, Settings.from_env()),
        catalogues.parse(file[1], contract, file[0]),
        contract,
        period.since,
        period.until,
        period.as_of,
        judge.model.propensity if judge else None,
        Sample(SAMPLE, pieces_of(log)),
    )
    return proof, list(told(proof, DAYS))


@st.cache_resource(max_entries=2, show_spinner=False)
def pieces_of(log: str) -> Pieces:
    """Keep what was made of a log's files, so that a look at a log that has grown reads the new ones."""
    return Pieces()


@st.cache_resource(max_entries=8, show_spinner=False)
def contract_of(log: str, at: tuple[int, int]) -> Contract:
    """Find the contract of a log's decisions; once for a version of the log."""
    kept_catalogues = history.kept(DeltaTables.at(log, Settings.from_env()))
    if not kept_catalogues:
        raise DataError(f"{log}: expected a log with the catalogues that decided, found none")
    return next(iter(kept_catalogues.values())).contract


def intervals(rows: Sequence[tuple[str, Interval | Difference]], title: str, key: str) -> None:
    """Draw estimates with their intervals, beside zero."""
    known_rows = [(name, one) for name, one in rows if one.value == one.value]
    if not known_rows:
        return
    figure = charts.intervals(known_rows, title)
    spoken = "; ".join(f"{name} {one.value:+.2f}, {one.low:+.2f} to {one.high:+.2f}" for name, one in known_rows)
    chart(figure, f"{title}: {spoken}", f"intervals {key}", 130 + 36 * len(known_rows))
