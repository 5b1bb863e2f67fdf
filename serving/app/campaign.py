"""Campaign: the plan within capacities and budget, its value against the bound on any plan, and what limits cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
import yaml

from offers.batch.allocation import Plan, allocate
from offers.batch.campaign import Campaign, Constraints, Exposure, load
from offers.batch.customers import CustomerSchema
from offers.batch.exposure import Segments
from offers.batch.left_out import LeftOut, left_out
from offers.batch.pairs import read_scored
from offers.batch.places import delta_table
from offers.contract.contract import Contract
from offers.errors import CampaignError
from offers.policy.catalogue import Catalogue
from offers.reports.campaign import exposure_tables, left_out_table, limits_table, price_chart, spoken_prices
from offers.settings import Settings
from offers.yaml_file import Kind
from serving.app import kept
from serving.app.kept import Scored
from serving.app.screen import advice, chart, euros, part, plain, report_table, uploaded

NIGHT = "make night"
_CAMPAIGN = Kind("campaign", "offers.batch", "name and capacity", CampaignError)
LIVE_CUSTOMERS = 10_000
"""Customers up to which a plan follows a slider at once; of more it waits for a button."""
FREE = "name: all\nper_customer: 1\n"


@dataclass(frozen=True)
class Planned:
    """A plan, with what it was made of."""

    campaign: Campaign
    catalogue: Catalogue
    constraints: Constraints
    plan: Plan
    customers: int
    left: list[LeftOut]


def page() -> None:
    """Show the page."""
    st.title("Campaign")
    places = kept.scored(Settings.from_env())
    if not places:
        advice("No customers are scored yet. 'make night' scores 100 000 simulated ones, and plans a week.", NIGHT)
        return
    where = st.selectbox("Scored customers", list(places), format_func=kept.below_home) or next(iter(places))
    texts = dict(places[where].campaigns)
    file = st.file_uploader("File of another campaign", ("yaml", "yml"), key="campaign file")
    if file is not None:
        texts = {file.name: uploaded(file)} | texts
    texts = texts or {"without limits": FREE}
    name = st.selectbox("Campaign", list(texts)) or next(iter(texts))
    _plan(places[where], texts[name])


@part
def _plan(table: Scored, text: str) -> None:
    where, content = table.where, _CAMPAIGN.read(text, "the campaign").content
    written = version(where)
    if len(read(table, written, ())[0]) > LIVE_CUSTOMERS:
        with st.form(f"limits {where}"):
            limits = _limits(content, where)
            st.form_submit_button("Plan within these limits")
    else:
        limits = _limits(content, where)
    asked = yaml.safe_dump(limits, sort_keys=False)
    made = planned(table, written, asked)
    plan, bound = made.plan, made.plan.pricing.bound
    short = max(0.0, 1 - plan.value / bound) if bound else 0.0
    left, right = st.columns(2)
    left.metric("The plan is expected to earn", euros(plan.value))
    left.metric("Short of the bound by at most", f"{short:.3%}")
    right.metric("No plan can earn more than (the bound)", euros(bound))
    right.metric(f"Contacts, of {made.customers:,} customers", f"{len(plan.customer):,}")
    st.header("Limits and their prices")
    if made.constraints.names:
        report_table(limits_table(made.constraints, plan))
        figure, spoken = price_chart(made.constraints, plan), spoken_prices(made.constraints, plan)
        chart(figure, spoken, "prices", 110 + 36 * len(made.constraints.names))
    else:
        advice("The campaign has no limits: everybody gets the best offer.")
    st.header("Who gets what")
    for title, contacts in exposure_tables(made.catalogue.offers, plan):
        with st.expander(plain(f"Contacts by {title}"), expanded=title == "offer"):
            report_table(contacts)
    st.header("Who gets nothing")
    report_table(left_out_table(made.constraints, made.left, made.customers))
    st.header("The same plan from a program")
    st.code(asked, language="yaml", wrap_lines=True)
    command = f"offers campaign {where} week.yaml plan.parquet --catalogue {made.catalogue.name}"
    st.code(command, language="bash", wrap_lines=True)


def _limits(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Show a slider for each limit, and return the campaign with what they say."""
    changed = dict(content)
    capacities = content.get("capacity") or []
    cells = st.columns(2)
    if isinstance(capacities, list) and all(isinstance(one, dict) for one in capacities):
        changed["capacity"] = [
            one | {"contacts": _slider(cells[place % 2], str(one.get("name")), one.get("contacts"), "contacts", where)}
            for place, one in enumerate(capacities)
        ]
    if content.get("budget") is not None:
        changed["budget"] = float(_slider(cells[len(capacities) % 2], "budget", content["budget"], "EUR", where))
    each = content.get("per_customer", 1)
    changed["per_customer"] = st.number_input("Contacts of a customer, at most", 1, 100, each, key=f"each {where}")
    return changed


def _slider(cell: Any, name: str, start: Any, unit: str, where: str) -> Any:
    if isinstance(start, bool) or not isinstance(start, int | float) or start < 0:
        raise CampaignError(f"{name}: expected a number of {unit} of at least 0, got {start!r}")
    most = max(10, int(2 * start))
    return cell.slider(plain(f"{name}, {unit}"), 0, most, int(start), key=f"{name} {where} {start}")


def version(where: str) -> float:
    """Tell when a scored table was last written to, in seconds since 1970; of a table in a bucket its version."""
    if "://" in where:
        tables, name = delta_table(where, Settings.from_env())
        return tables.open(name).version()
    return max(path.stat().st_mtime for path in (Path(where), *Path(where).iterdir()))


@st.cache_resource(max_entries=16, show_spinner="The campaign is planned ...")
def planned(table: Scored, written: float, text: str) -> Planned:
    """Plan a campaign as 'offers campaign' does; once for each version of table and limits."""
    catalogue, contract = known_catalogue(table, written)
    protected = [column.name for column in CustomerSchema(contract, "customer").protected]
    campaign, base = load(text, catalogue.offers, protected)
    floors = tuple(campaign.exposure)
    scores, sizes = read(table, written, floors)
    constraints = Segments(floors).constraints(base, sizes)
    plan = allocate(scores, constraints)
    most = np.full(len(scores), constraints.per_customer, np.uint8)
    return Planned(campaign, catalogue, constraints, plan, len(scores), left_out(scores, constraints, plan, most))


@st.cache_resource(max_entries=3, show_spinner="Scored customers are read ...")
def read(table: Scored, written: float, floors: tuple[Exposure, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Read a scored table once for each set of floors of exposure: scores in EUR, and the segments' sizes."""
    catalogue, _ = known_catalogue(table, written)
    settings = Settings.from_env()
    with read_scored(table.where, catalogue, Segments(floors), settings, settings.home) as pairs:
        return np.array(pairs.scores), pairs.sizes


@st.cache_resource(max_entries=4, show_spinner=False)
def known_catalogue(table: Scored, written: float) -> tuple[Catalogue, Contract]:
    """Find the catalogue that scored a table, once."""
    return kept.catalogue_of(table, Settings.from_env())
