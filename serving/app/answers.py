"""How an answer of the ranker looks, and what moved the propensity of one of its offers."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from offers.reports.charts import DOWN, PLAIN, UP, label
from serving.app.place import Served
from serving.app.scoring import movers
from serving.app.screen import advice, chart, percent, plain, table

SHOWN_MOVERS, SHOWN_WITHHELD = 8, 50
Prediction = Mapping[str, Any]


def show_ranking(prediction: Prediction, key: str, brief: bool = False) -> None:
    """Show the offers in order: propensity, value and score, and the chart of the scores."""
    if prediction["fallback"]:
        st.warning("The predictor is away: this is the ranking by value.")
    offers = prediction["offers"]
    if not offers:
        advice("Nothing is offered to this customer; below is why.")
        return
    rows = [
        (offer["rank"], offer["offer_id"], percent(offer["propensity"]), _number(offer["value"]),
         _number(offer["score"]), percent(offer["action_probability"], 0))
        for offer in offers
    ]  # fmt: skip
    head = ("rank", "offer", "propensity", "value, EUR", "score, EUR", "put first")
    if brief:
        table(head[:3] + head[4:5], [row[:3] + row[4:5] for row in rows])
        return
    codes = [", ".join(filter(str.isupper, offer["reasons"])) for offer in offers]
    table((*head, "why here"), [(*row, why) for row, why in zip(rows, codes, strict=True)])
    for sentence in (word for offer in offers for word in offer["reasons"] if not word.isupper()):
        st.markdown(f"- {plain(sentence)}")
    scored = [offer for offer in offers if offer["score"] is not None]
    if scored:
        names = [label(f"{offer['rank']}. {offer['offer_id']}") for offer in scored]
        scores = [offer["score"] for offer in scored]
        bars = go.Bar(x=scores, y=names, orientation="h", marker_color=UP, texttemplate="%{x:,.2f} EUR", name="score")
        figure = go.Figure(bars)
        figure.update_xaxes(title="score: expected earnings of a contact, EUR")
        figure.update_yaxes(autorange="reversed")
        spoken = "; ".join(f"{offer['offer_id']} {offer['score']:.2f} EUR" for offer in scored)
        chart(figure, f"Scores of the ranked offers: {spoken}", f"scores-{key}", 100 + 36 * len(scored))


def show_withheld(prediction: Prediction) -> None:
    """Show the offers that are not in the answer, those with the same reason together."""
    withheld: dict[str, list[str]] = {}
    for offer in prediction["withheld"]:
        codes = "; ".join(f"{reason['code']}, {reason['text']}" for reason in offer["reasons"])
        withheld.setdefault(" ".join(offer.get("principal_reasons", ())) or codes, []).append(offer["offer_id"])
    with st.expander(f"Withheld: {len(prediction['withheld']):,} offers", expanded=len(withheld) <= 4):
        table(("why", "offers"), [(why, _some(names)) for why, names in withheld.items()])


def show_movers(here: Served, values: Mapping[str, Any], offer: str) -> None:
    """Show how each column moved an offer's propensity, from the bundle's average on."""
    moved = movers(here, values, offer)
    order = sorted(moved.contributions.items(), key=lambda pair: -abs(pair[1]))
    first, rest = order[:SHOWN_MOVERS], order[SHOWN_MOVERS:]
    names, steps = [label(_told(here, name, values, offer)) for name, _ in first], [step for _, step in first]
    if rest:
        names.append(f"{len(rest)} other columns")
        steps.append(sum(step for _, step in rest))
    names, steps = ["at the start", *names, "this customer"], [moved.bias, *steps, 0.0]
    total = moved.bias + sum(moved.contributions.values())
    texts = [f"{step:+.2f}" for step in steps[:-1]] + [f"{total:+.2f}: {moved.propensity:.1%}"]
    figure = go.Figure(
        go.Waterfall(
            x=steps, y=names, measure=["absolute", *["relative"] * (len(steps) - 2), "total"], orientation="h",
            text=texts, textposition="outside", increasing_marker_color=UP, decreasing_marker_color=DOWN,
            totals_marker_color=PLAIN, connector_line_color=PLAIN, name="contribution",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="log-odds of the propensity; + raises, − lowers")
    told = "; ".join(f"{name} {step:+.2f}" for name, step in first)
    chart(figure, f"What moved the propensity of {offer} to {moved.propensity:.1%}: {told}", "movers", 420)


def _told(here: Served, name: str, values: Mapping[str, Any], offer: str) -> str:
    value = values.get(name)
    if name not in values:
        value = next(one.attributes.get(name) for one in here.policy.offers if one.id == offer)
    unit = here.contract[name].unit
    if value is None:
        return f"{name}: not known"
    shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
    return f"{name}: {shown:g}{f' {unit}' if unit else ''}" if isinstance(shown, float) else f"{name}: {shown}"


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN_WITHHELD
    return ", ".join(names[:SHOWN_WITHHELD]) + (f" and {rest:,} more" if rest > 0 else "")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"
