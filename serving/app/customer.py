"""Customer: what is offered to somebody, why, and what would change that."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import streamlit as st

from serving.app.answers import show_movers, show_ranking, show_withheld
from serving.app.fields import asked_of, fields
from serving.app.place import Served, credentials, instance, reference, served, values_of
from serving.app.screen import advice, guarded, plain, table
from serving.app.what_if import what_if
from serving.asking import ask
from serving.ranker.explaining import MOST_PAIRS
from serving.ranker.question import example

ANSWER = "answer of the ranker"
CUSTOMER = "app-1"
"""Who the page says that it asks about, so that its questions can be told from others in the log."""


def page() -> None:
    """Show the page."""
    st.title("Customer")
    here = served()
    st.markdown(plain(f"{here.contract.title}: bundle {here.bundle.name}, catalogue {here.catalogue.name}"))
    number = _number_of(here, "Begin with a customer of the training, by number", "first")
    start = start_values(here, number)
    with st.form("customer", border=False):
        values = fields(here.contract, start, f"{here.bundle.name}:{number}")
        submitted = st.form_submit_button("Rank offers")
    st.markdown(plain(f"The page asks as customer {CUSTOMER}: a real question, logged and watched as any other."))
    asked = (here.bundle.name, here.catalogue.version, number)
    if submitted or st.session_state.get(ANSWER, {}).get("asked") != asked:
        st.session_state.pop(ANSWER, None)
        st.session_state[ANSWER] = {"asked": asked, "values": values, "prediction": _asked(here, values)}
    values, prediction = (st.session_state[ANSWER][name] for name in ("values", "prediction"))
    show_ranking(prediction, "main")
    show_withheld(prediction)
    _why(here, values, prediction)
    if any(column.may_be_missing or column.is_numeric or column.values for column in asked_of(here.contract)):
        st.header("What if")
        what_if(here, values, [offer["offer_id"] for offer in prediction["offers"]])
    st.header("Compare")
    _compare(here, values, prediction)
    st.header("The same question from a program")
    st.code(curl(here, values), language="bash", wrap_lines=True)


def start_values(here: Served, number: int | None) -> dict[str, Any]:
    """Values of a customer of the training, or of a typical one."""
    if number is not None:
        return values_of(here.contract, reference(str(here.bundle.path)), number)
    question = example(here.contract)["instances"][0]
    return {**question["customer"], **question["context"]}


def curl(here: Served, values: Mapping[str, Any]) -> str:
    """Write the question as a command."""
    body = json.dumps(_question(here, values))
    address = f"{here.addresses.ranker}/v1/models/offers:predict"
    return f"curl -s {address} -H 'content-type: application/json' -d {shlex.quote(body)}"


def _number_of(here: Served, words: str, key: str, start: int | None = None) -> int | None:
    last = len(reference(str(here.bundle.path))) - 1
    typical = "a typical customer"
    first = None if start is None else min(start, last)
    return st.number_input(
        f"{words}, 0 to {last}", 0, last, first, key=f"{key}:{here.bundle.name}", placeholder=typical
    )


def _question(here: Served, values: Mapping[str, Any]) -> dict[str, Any]:
    question: dict[str, Any] = {"instances": [instance(here.contract, CUSTOMER, dict(values))]}
    return question | ({"explain": True} if len(here.policy.offers) <= MOST_PAIRS else {})


def _asked(here: Served, values: Mapping[str, Any]) -> dict[str, Any]:
    answer = ask(here.addresses.ranker, _question(here, values), credentials())
    prediction: dict[str, Any] = answer["predictions"][0]
    return prediction


def _why(here: Served, values: Mapping[str, Any], prediction: Mapping[str, Any]) -> None:
    scored = [offer["offer_id"] for offer in prediction["offers"] if offer["propensity"] is not None]
    if not scored:
        return
    st.header("What moved it")
    chosen = st.selectbox("Offer", scored, key="moved")
    if prediction["versions"]["model"] == here.bundle.name and chosen:
        show_movers(here, values, chosen)
    else:
        advice("Another model has answered than the one that this page has loaded: rank the offers again.")


@guarded
def _compare(here: Served, values: Mapping[str, Any], prediction: Mapping[str, Any]) -> None:
    number = _number_of(here, "With a customer of the training, by number", "second", 1)
    other = start_values(here, number)
    columns = [column for column in asked_of(here.contract) if values[column.name] != other[column.name]]
    if not columns:
        advice("Both are the same customer: name another number.")
        return
    names = [f"{column.name} ({column.unit})" if column.unit else column.name for column in columns]
    cells = [(name, values[column.name], other[column.name]) for name, column in zip(names, columns, strict=True)]
    table(("differs", "above", "other"), cells)
    left, right = st.columns(2)
    with left:
        st.subheader("Above")
        show_ranking(prediction, "left", brief=True)
    with right:
        st.subheader("Other")
        show_ranking(_asked(here, other), "right", brief=True)
