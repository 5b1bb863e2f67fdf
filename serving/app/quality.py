"""What a bundle's evaluation found, as figures and tables: windows, calibration, segments, fairness, the gate."""

import plotly.graph_objects as go
import streamlit as st

from offers.bundle.bundle import Bundle
from offers.evaluation.figures import Evaluation
from offers.reports import tables
from serving.app.screen import COLOURS, PLAIN, advice, chart, label, plain, report_table

SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up")


def show_quality(bundle: Bundle) -> None:
    """Show the evaluation on which the gate judged, by the tables of the training's report."""
    evaluation, contract = bundle.evaluation, bundle.contract
    st.subheader("The gate")
    report_table(tables.gate(bundle.verdict))
    st.subheader("Window by window")
    st.markdown(plain("Each window lies after the rows that the model was fitted on."))
    report_table(tables.windows(evaluation, {}))
    st.subheader("Calibration")
    _calibration(evaluation)
    st.subheader("Segments")
    segments = tables.segments(evaluation, contract)
    for name, content in segments.items():
        with st.expander(plain(f"By {name}"), expanded=len(segments) == 1):
            report_table(content)
    if not segments:
        advice("The contract names no segments, or none is large enough for figures of its own.")
    st.subheader("Fairness of the score")
    for fair in evaluation.fairness:
        with st.expander(plain(f"By {fair.column}, at the operating point"), expanded=len(evaluation.fairness) == 1):
            report_table(tables.fairness(fair, contract))
    if not evaluation.fairness:
        advice("The contract protects no column that divides customers into groups.")


def _calibration(evaluation: Evaluation) -> None:
    """Draw what the propensities promised beside what was observed: a point for each window and each group."""
    scores = [(f"window {window.name}", "window", window.model) for window in evaluation.windows]
    scores += [(f"{one.column}: {one.value}", one.column, one.scores) for one in evaluation.segments]
    figure, most = go.Figure(), 100 * max(max(one.mean_propensity, one.positive_rate) for *_, one in scores)
    for place, kind in enumerate(dict.fromkeys(kind for _, kind, _ in scores)):
        own = [(name, one) for name, of, one in scores if of == kind]
        figure.add_scatter(
            x=[100 * one.mean_propensity for _, one in own],
            y=[100 * one.positive_rate for _, one in own],
            hovertext=[label(f"{name}, {one.rows:,} rows") for name, one in own],
            mode="markers",
            name=label(kind),
            marker={"color": COLOURS[place % len(COLOURS)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9},
        )
    figure.add_scatter(x=[0, most], y=[0, most], mode="lines", line={"dash": "dot", "color": PLAIN}, name="as promised")
    figure.update_xaxes(title="mean propensity, %", rangemode="tozero")
    figure.update_yaxes(title="observed rate, %", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    whole = evaluation.model
    spoken = f"{whole.mean_propensity:.1%} promised, {whole.positive_rate:.1%} observed"
    chart(figure, f"Calibration by window and group; of all rows {spoken}", "calibration", 380)
    st.markdown(plain(f"Of all {whole.rows:,} rows: {spoken}."))
