"""Watch: how far customers and propensities have drifted from the training, what was decided, and why."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from offers.contract.contract import Contract
from offers.errors import ServiceError
from offers.monitoring.findings import Monitoring
from offers.reports import charts
from offers.reports.charts import COLOURS, REFERENCE, label, line_style
from offers.reports.monitoring import headline
from offers.settings import Settings
from serving.app import kept, watched
from serving.app.place import bundle_at, contracts, loaded, running
from serving.app.screen import advice, chart, part, percent, plain, table
from serving.app.watched import Event, Watched

LISTS = {
    "watched": "is an alarm where it lasts",
    "expected": "is natural, and no alarm",
    "ours": "is the policy's doing, and no alarm",
}
SHOWN_COLUMNS, MOST_EVENTS = 6, 50
SYMBOLS = {
    "alarm": "triangle-up",
    "verdict": "diamond",
    "request": "circle-open",
    "retraining": "circle",
    "end of a run": "square",
}


def page() -> None:
    """Show the page."""
    st.title("Watch")
    settings = Settings.from_env()
    names = contracts(settings)
    if not names:
        advice("There is no bundle yet, so nothing is watched.", "make demo")
        return
    contract = st.selectbox("Contract", names) or names[0]
    runs = watched.runs_of(settings, contract)
    found = _watches(settings, contract, runs)
    events = [*watched.verdicts(runs), *watched.retrainings(settings, contract)]
    if found:
        titles = {one.title: one for one in found}
        one = titles[st.selectbox("Watch", list(titles)) or found[0].title]
        st.header("Why")
        _why(one, runs)
        st.header("Drift")
        _drift(one, _contract_of(settings, one.bundle))
        events += one.alarms
    else:
        here = () if settings.pages.ranker else ("make demo",)
        advice(
            "No window of decisions is full yet: the sidecar judges one after the other as customers come"
            f"{'; the demo sends some' if here else ''}. A monitoring run judges those of the decision log.",
            *here,
            _monitor(settings),
        )
    st.header("Alarms, verdicts, retrainings")
    _events(events)
    st.header("Labels")
    _labels(runs, _monitor(settings))


def _monitor(settings: Settings) -> str:
    """Write the command that judges the decision log of the services, or the newest of this machine."""
    log = settings.pages.tables or next(iter(kept.logs(settings)), str(settings.home / "tables"))
    bundles = f"{log.rpartition('/')[0]}/bundles" if log.startswith("s3://") else settings.home / "bundles"
    return f"offers monitor run --bundle {bundles} --scored {log} --outcomes {log}"


def _watches(settings: Settings, contract: str, runs: Sequence[Monitoring]) -> list[Watched]:
    now = None
    try:
        services = running(settings)
        now = watched.live(services.drift) if services is not None and services.drift else None
    except ServiceError as error:
        # What earlier sidecars and monitoring runs have seen is there all the same.
        st.warning(plain(error))
    found = [] if now is None else [now]
    found += watched.monitored(runs)
    # The state of a sidecar that runs is what it answers.
    found += [one for one in watched.earlier(settings) if now is None or _folder(one) != "serve/drift"]
    return [one for one in found if one.bundle.rpartition("-")[0] == contract]


def _folder(one: Watched) -> str:
    return one.title.removeprefix("sidecar of ").partition(",")[0]


def _contract_of(settings: Settings, bundle: str) -> Contract | None:
    path = bundle_at(settings, bundle)
    return None if path is None else loaded(str(path)).contract


def _why(one: Watched, runs: Sequence[Monitoring]) -> None:
    """Say in words what the newest window means."""
    newest = next((run for run in reversed(runs) if run.findings.bundle == one.bundle), None)
    if newest is not None:
        st.markdown(f"**{plain(headline(newest))}**")
    elif one.reasons:
        st.markdown(plain(f"Drift lasts, after {len(one.windows)} windows of {one.bundle}:"))
    else:
        st.markdown(plain(f"{len(one.windows)} windows of {one.bundle} are judged, and none of the drift lasts."))
    for reason in one.reasons:
        st.markdown(f"- {plain(reason)}")


@part
def _drift(one: Watched, contract: Contract | None) -> None:
    last = one.windows[-1]
    order = sorted(last.distances, key=lambda name: (one.lists[name] != "watched", -(last.distances[name] or 0.0)))
    most = f"the {min(len(order), SHOWN_COLUMNS)} that are farthest"
    choice = st.selectbox("Columns", [most, *order], key=f"columns {one.title}")
    chosen = order[:SHOWN_COLUMNS] if choice in (None, most) else [choice]
    moments = [window.moment for window in one.windows]
    columns = {name: [window.distances.get(name) for window in one.windows] for name in chosen}
    figure = charts.distances(moments, columns, None if contract is None else contract.watch.ks)
    spoken = "; ".join(f"{name} {_figure(last.distances[name])}" for name in chosen)
    chart(figure, f"Distance of columns from the training in the last window: {spoken}", f"drift {one.title}", 380)
    cells = [(name, _unit(contract, name), _figure(last.distances[name]), LISTS[one.lists[name]]) for name in order]
    with st.expander("All columns in the last window"):
        table(("column", "measured by", "distance, 0 to 1", "its drift"), cells)
    left, right = st.columns(2)
    with left:
        st.subheader("Propensities")
        _line(one, [window.score for window in one.windows], "KS distance, 0 to 1", "score")
        _line(one, [100 * window.rate for window in one.windows], "mean propensity, %", "rate", one.reference)
        st.markdown(plain(f"Last window: KS {last.score:.3f}, mean propensity {percent(last.rate)}"))
    with right:
        st.subheader("Order of importance")
        _line(one, [window.importance for window in one.windows], "NDCG, 1 is the training's order", "importance")
        st.markdown(plain(f"Last window: NDCG {_figure(last.importance)}"))


def _line(one: Watched, values: Sequence[float | None], title: str, key: str, reference: float | None = None) -> None:
    figure = go.Figure()
    moments = [window.moment for window in one.windows]
    figure.add_scatter(x=moments, y=values, mode="lines+markers", name=title, line=line_style(0))
    if reference is not None:
        figure.add_hline(100 * reference, annotation_text="training", **REFERENCE)
    figure.update_yaxes(title=title)
    chart(figure, f"{title} through time, last {_figure(values[-1])}", f"{key} {one.title}", 240)


def _events(events: Sequence[Event]) -> None:
    if not events:
        advice("No alarm, no verdict and no retraining yet.", "offers retrain now")
        return
    # Of events of the same moment, the one that was written later stands first.
    order = sorted(events, key=lambda event: event.moment)[::-1][:MOST_EVENTS]
    figure = go.Figure()
    for place, (kind, symbol) in enumerate(SYMBOLS.items()):
        own = [event for event in order if event.kind == kind]
        if own:
            marker = {"symbol": symbol, "size": 12, "color": COLOURS[place]}
            texts = [label(event.what) for event in own]
            moments = [event.moment for event in own]
            figure.add_scatter(
                x=moments, y=[kind] * len(own), mode="markers", name=kind, marker=marker, hovertext=texts
            )
    figure.update_xaxes(title="time, UTC")
    figure.update_layout(showlegend=False)
    chart(figure, f"{len(order)} events on one axis of time", "events", 120 + 30 * len(SYMBOLS))
    rows = [(f"{event.moment:%Y-%m-%d %H:%M:%S}", event.kind, event.what, event.why) for event in order]
    table(("when, UTC", "what", "result", "why"), rows)


def _labels(runs: Sequence[Monitoring], command: str) -> None:
    """Show what matured labels said of the propensities, run by run."""
    judged = [(run.findings, run.findings.performance) for run in runs if run.findings.performance is not None]
    if not judged:
        advice(
            "No monitoring run has seen a matured label yet; a run with outcomes holds them against the propensities.",
            command,
        )
        return
    figure = go.Figure()
    moments = [found.until for found, _ in judged]
    for place, (name, values) in enumerate(
        {
            "accepted": [100 * seen.rate.observed for _, seen in judged if seen],
            "promised": [100 * seen.rate.expected for _, seen in judged if seen],
        }.items()
    ):
        figure.add_scatter(x=moments, y=values, mode="lines+markers", name=name, line=line_style(place))
    figure.update_yaxes(title="share of decisions, %")
    figure.update_xaxes(title="end of the decisions, UTC")
    chart(figure, "Share of decisions that were accepted, and that the propensities promised", "labels", 280)
    rows = [
        (
            f"{found.as_of:%Y-%m-%d %H:%M}",
            f"{found.labels.labelled:,}",
            percent(seen.rate.observed),
            percent(seen.rate.expected),
            str(seen.scores.figures.get("auc", "–")),
            str(seen.at_the_gate.figures.get("auc", "–")),
        )
        for found, seen in judged
        if seen
    ]
    table(("as of, UTC", "labels", "accepted", "promised", "AUC, live", "AUC, at the gate"), rows)


def _unit(contract: Contract | None, name: str) -> str:
    if contract is None or name not in contract.by_name:
        return "KS or Cramér's V"
    return "KS" if contract[name].is_numeric else "Cramér's V"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
