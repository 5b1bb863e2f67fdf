"""What a bundle's evaluation found, as figures and tables: windows, calibration, segments, fairness, the gate."""

import streamlit as st

from offers.bundle.bundle import Bundle
from offers.evaluation.figures import Evaluation
from offers.reports import charts, tables
from serving.app.screen import advice, chart, plain, report_table


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
    figure = charts.calibration(evaluation)
    whole = evaluation.model
    spoken = f"{whole.mean_propensity:.1%} promised, {whole.positive_rate:.1%} observed"
    chart(figure, f"Calibration by window and group; of all rows {spoken}", "calibration", 380)
    st.markdown(plain(f"Of all {whole.rows:,} rows: {spoken}."))
