"""Catalogue: a draft of offers and rules, what it would change for customers, and its proposal to those who approve."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import streamlit as st
import yaml

from offers.files import os_errors, settle
from offers.governance.comparison import settings_of
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.catalogue import Catalogue
from offers.policy.effect import FirstPlaces, first_places, moved
from offers.policy.selection import plain_columns
from offers.reports.charts import COLOURS, label
from offers.settings import Settings
from offers.wording import counted
from serving.app.commands import run
from serving.app.draft import content_of, edit_offer, edit_rule
from serving.app.place import Served, ledger, reference, served
from serving.app.screen import advice, chart, euros, part, percent, plain, table, uploaded
from serving.app.signing import key_field

CUSTOMERS = 1000
DRAFT = "draft of a catalogue"
MOST_BARS = 20
SHOWN_OFFERS = 200
"""Offers of a draft up to which its YAML is shown."""


@dataclass
class Draft:
    """A catalogue that somebody edits in this window.

    Attributes
    ----------
    base : the catalogue that it began as
    proposed : SHA-256 of the catalogue that was proposed last when it began, empty where none was
    content : as the YAML file has it
    """

    base: Catalogue
    proposed: str
    content: dict[str, Any]

    @property
    def text(self) -> str:
        return yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True, width=110)


def page() -> None:
    """Show the page."""
    st.title("Catalogue")
    here = served()
    draft = _draft(here)
    st.markdown(plain(f"A draft that began as {draft.base.name} {draft.base.version}, which serves; nothing is saved."))
    columns = st.columns(2)
    with columns[0]:
        st.header("Offers")
        edit_offer(here.contract, draft.content)
    with columns[1]:
        st.header("Rules")
        edit_rule(here.contract, draft.content)
    with st.expander("The draft as YAML"):
        if len(draft.content["offers"]) <= SHOWN_OFFERS:
            st.code(draft.text, language="yaml", wrap_lines=True)
        st.download_button("Download", lambda: draft.text, f"{draft.base.name}-draft.yaml", "application/yaml")
        file = st.file_uploader("Another draft, from a file", ("yaml", "yml"))
        if file is not None and st.button("Take this file as the draft"):
            catalogues.parse(uploaded(file), here.contract, file.name)
            draft.content = content_of(uploaded(file), file.name)
            st.rerun()
        if st.button("Begin again with what serves"):
            del st.session_state[DRAFT]
            st.rerun()
    st.header("Check")
    after = checked(json.dumps(draft.content, default=str), here.bundle.name, here, draft)
    changes = _changes(draft.base, after)
    if not changes:
        advice("The draft keeps to the contract, and is what serves: change an offer or a rule above.")
        return
    differ = "differs" if len(changes) == 1 else "differ"
    st.success(plain(f"The draft keeps to contract {here.contract.name}; {counted(len(changes), 'setting')} {differ}."))
    table(("setting", "serves", "draft"), changes)
    st.header(f"What would change for {CUSTOMERS:,} customers of the training")
    _show_effect(here, draft.base, after)
    st.header("Propose")
    _propose(here, draft)


def _draft(here: Served) -> Draft:
    draft: Draft | None = st.session_state.get(DRAFT)
    if draft is None or draft.base.contract != here.contract.name:
        text = catalogues.text(here.addresses.catalogue)
        draft = Draft(here.catalogue, _last_proposed(here.contract.name), content_of(text, here.addresses.catalogue))
        st.session_state[DRAFT] = draft
    return draft


def _last_proposed(contract: str) -> str:
    return ledger(Settings.from_env()).state().catalogues.get(contract, "")


def _changes(before: Catalogue, after: Catalogue) -> list[tuple[str, str, str]]:
    first, second = settings_of(before), settings_of(after)
    return [
        (name, first.get(name, "–"), second.get(name, "–"))
        for name in dict.fromkeys((*first, *second))
        if first.get(name) != second.get(name)
    ]


@st.cache_resource(max_entries=4, show_spinner="The draft is checked ...")
def checked(content: str, bundle: str, _here: Served, _draft: Draft) -> Catalogue:
    """Hold a draft against the contract; once for each content, as thousands of offers take seconds."""
    return catalogues.parse(_draft.text, _here.contract, "the draft")


@st.cache_resource(max_entries=16, show_spinner=False)
def effect(bundle: str, _here: Served, version: str, _catalogue: Catalogue) -> FirstPlaces:
    """Rank a bundle's reference customers by a catalogue; once for each version of it."""
    sample = reference(bundle)
    rows = sample.sample(min(CUSTOMERS, len(sample)), random_state=0)
    policy = Policy(_catalogue, _here.contract)
    return first_places(policy, plain_columns(rows), _here.bundle.model.propensity)


def _show_effect(here: Served, base: Catalogue, after: Catalogue) -> None:
    bundle = str(here.bundle.path)
    first, second = (effect(bundle, here, one.version, one) for one in (base, after))
    customers = len(first.probability)
    cells = st.columns(3)
    cells[0].metric("Customers with another first offer", f"{moved(first, second):.1%}")
    cells[1].metric(
        "Expected earnings of a customer",
        euros(second.expected),
        _more(second.expected - first.expected, "+.2f", " EUR"),
    )
    cells[2].metric(
        "Customers without an offer",
        percent(second.nothing / customers),
        _more(100 * (second.nothing - first.nothing) / customers, "+.1f", " %"),
        delta_color="inverse",
    )
    ids = dict.fromkeys((*first.offers, *second.offers))
    counts = {offer: (first.customers(offer), second.customers(offer)) for offer in ids}
    counts["no offer"] = (first.nothing, second.nothing)
    order = sorted(counts, key=lambda offer: -abs(counts[offer][1] - counts[offer][0]))
    rows = [(offer, f"{counts[offer][0]:,.0f}", f"{counts[offer][1]:,.0f}") for offer in order if any(counts[offer])]
    _bars({offer: counts[offer] for offer in order[:MOST_BARS] if any(counts[offer])})
    table(("offer that comes first", "customers now", "customers by the draft"), rows)


def _more(difference: float, form: str, unit: str) -> str | None:
    """Write a difference; None, which shows no arrow, where it is 0 as it would be written."""
    text = f"{difference:{form}}"
    return f"{text}{unit}" if float(text) else None


def _bars(counts: Mapping[str, tuple[float, float]]) -> None:
    figure = go.Figure()
    for place, name in enumerate(("serves", "draft")):
        values, words = [pair[place] for pair in counts.values()], [label(offer) for offer in counts]
        figure.add_bar(
            x=values,
            y=words,
            orientation="h",
            name=name,
            marker={"color": COLOURS[place], "pattern": {"shape": ("", "/")[place]}},
        )
    figure.update_xaxes(title="customers who have it first")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    spoken = "; ".join(f"{offer} {now:.0f}, then {then:.0f}" for offer, (now, then) in counts.items())
    chart(figure, f"Customers by first offer, now and by the draft: {spoken}", "effect", 120 + 44 * len(counts))


@part
def _propose(here: Served, draft: Draft) -> None:
    """Make a release of the bundle that serves and the draft; people with keys approve it, on page Model."""
    key = key_field("Of a trainer or an operator.")
    if not st.button("Propose"):
        st.markdown(plain("A proposal is a release in the ledger, which waits for its approvals. Nobody gets it yet."))
        return
    if key is None:
        st.error(plain("A proposal needs the file of your key, who will stand in the ledger as its maker."))
        return
    serving, proposed = served().catalogue.version, _last_proposed(here.contract.name)
    if serving != draft.base.version or proposed != draft.proposed:
        what = "serves" if serving != draft.base.version else "is proposed"
        st.error(
            plain(
                f"Since this draft began, another catalogue {what}. Keep the draft as YAML, begin again with what"
                " serves, look at the release on page Model, and put your changes on top."
            )
        )
        return
    file = Settings.from_env().home / "app" / f"{draft.base.name}-proposal.yaml"
    with os_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        settle(file, lambda unfinished: unfinished.write_text(draft.text, "utf-8"))
    with st.spinner("The ledger is asked ..."):
        succeeded, said = run(["model", "add", str(here.addresses.bundle), "--catalogue", str(file)], key)
    if succeeded:
        draft.proposed = _last_proposed(here.contract.name)
        st.success(plain(f"Proposed: release {said}. It waits for approval on page Model."))
    else:
        st.error(plain(said))
