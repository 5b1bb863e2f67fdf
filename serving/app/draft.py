"""Forms for the offers and the rules of a catalogue's draft, which is a dictionary as its YAML file has it."""

from collections.abc import Iterator
from typing import Any

import streamlit as st
import yaml

from offers.contract.column import Column, Role
from offers.contract.contract import Contract
from offers.errors import CatalogueError
from offers.yaml_file import Kind
from serving.app.screen import guarded, plain

NEW_OFFER, NEW_RULE = "a new offer", "a new rule"
OPERATORS = ("at_least", "at_most", "equals", "in", "is_not", "missing")
FACTORS = (("value", "value of an acceptance, EUR", 0.0), ("cost", "cost of a contact, EUR", 0.0),
           ("weight", "context weight, a factor", 1.0), ("lever", "lever, a factor", 1.0))  # fmt: skip
KINDS = ("eligibility", "suitability")
_CATALOGUE = Kind("catalogue", "offers.policy.shipped", "name, contract, families and offers", CatalogueError)
_CONDITION = Kind("condition", "offers.policy.shipped", "column and at_least", CatalogueError)


def content_of(text: str, origin: str) -> dict[str, Any]:
    """Read a catalogue's YAML as a dictionary to edit; words such as yes and no stay words."""
    return _CATALOGUE.read(text, origin).content


@guarded
def edit_offer(contract: Contract, content: dict[str, Any]) -> None:
    """Show the form of an offer, and put what it says into the draft."""
    offers: list[dict[str, Any]] = content["offers"]
    ids = [str(offer["id"]) for offer in offers]
    chosen = st.selectbox("Offer", [*ids, NEW_OFFER])
    place = ids.index(chosen) if chosen in ids else None
    offer = dict(offers[place]) if place is not None else dict(offers[0]) | {"id": "", "title": ""}
    with st.form(f"offer {chosen}"):
        offer["id"] = st.text_input("id", str(offer["id"]), disabled=place is not None)
        offer["title"] = st.text_input("title", str(offer["title"]))
        families = [str(family["name"]) for family in content["families"]]
        offer["family"] = st.selectbox("family", families, families.index(str(offer["family"])))
        for cell, (name, words, usual) in zip(st.columns(2) * 2, FACTORS, strict=True):
            number = cell.number_input(plain(words), 0.0, 1e9, float(offer.get(name, usual)), key=f"{chosen} {name}")
            if number != usual or name in offer:
                offer[name] = number
        attributes = {column.name: _attribute(column, offer, str(chosen)) for column in settable(contract)}
        offer["attributes"] = {name: value for name, value in attributes.items() if value is not None}
        left, right = st.columns(2)
        changed = left.form_submit_button("Change the draft" if place is not None else "Add to the draft")
        removed = right.form_submit_button("Remove from the draft", disabled=place is None or len(offers) == 1)
    if changed and place is not None:
        offers[place] = offer
    elif changed:
        if offer["id"] in ids:
            raise CatalogueError(f"an offer has the id {offer['id']!r} already; choose another")
        offers.append(offer)
    elif removed and place is not None:
        del offers[place]
    if changed or removed:
        st.rerun()


def settable(contract: Contract) -> list[Column]:
    """List the columns that offers set."""
    return [column for column in contract.columns if column.role == Role.OFFER]


@guarded
def edit_rule(contract: Contract, content: dict[str, Any]) -> None:
    """Show the form of a rule, and put what it says into the draft."""
    rules = dict(rules_of(content))
    chosen = st.selectbox("Rule", [*rules, NEW_RULE])
    rule: dict[str, Any] = {} if chosen not in rules else rules[chosen][0][rules[chosen][1]]
    simple = not rule or (isinstance(rule.get("column"), str) and len(_operators(rule)) == 1)
    owners = owners_of(content)
    with st.form(f"rule {chosen}"):
        owner, kind = "every offer", KINDS[0]
        if not rule:
            owner = st.selectbox("holds for", list(owners)) or owner
            kind = st.radio("kind", KINDS, horizontal=True) or kind
        reason = st.text_input("reason, a code in capitals", str(rule.get("reason", "")))
        test = _simple(contract, rule, str(chosen)) if simple else _whole(rule)
        justification = st.text_input("justification, for a protected column", str(rule.get("justification", "")))
        left, right = st.columns(2)
        changed = left.form_submit_button("Change the draft" if rule else "Add to the draft")
        removed = right.form_submit_button("Remove from the draft", disabled=not rule)
    if changed:
        new = {"reason": reason} | test() | ({"justification": justification} if justification else {})
        if rule:
            siblings, place = rules[chosen]
            siblings[place] = new
        else:
            owners[owner].setdefault(kind, []).append(new)
    elif removed:
        siblings, place = rules[chosen]
        del siblings[place]
    if changed or removed:
        st.rerun()


def owners_of(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Find what may carry rules, by the words for whom they hold."""
    owners = {"every offer": content}
    owners |= {f"family {family['name']}": family for family in content["families"]}
    return owners | {f"offer {offer['id']}": offer for offer in content["offers"]}


def rules_of(content: dict[str, Any]) -> Iterator[tuple[str, tuple[list[Any], int]]]:
    """Yield each rule's title with the list that it is in, and its place there."""
    for owner, ruled in owners_of(content).items():
        for kind in KINDS:
            for place, rule in enumerate(ruled.get(kind) or []):
                yield f"{rule['reason']}, {kind} of {owner}", (ruled[kind], place)


def _attribute(column: Column, offer: dict[str, Any], key: str) -> Any:
    value = (offer.get("attributes") or {}).get(column.name)
    name, words = f"{key} {column.name}", plain(f"{column.name}, {column.unit}" if column.unit else column.name)
    if column.is_numeric:
        number: float | None = st.number_input(words, column.min, column.max, value, key=name)
        return number
    options: list[Any] = list(column.values) if column.type == "category" else [True, False]
    options += [None] if column.may_be_missing else []
    return st.selectbox(words, options, options.index(value) if value in options else 0, _word, key=name)


def _simple(contract: Contract, rule: dict[str, Any], key: str) -> Any:
    names = [column.name for column in contract.inputs]
    column = st.selectbox("column", names, names.index(rule["column"]) if rule else 0, key=f"{key} column")
    operator = next(iter(_operators(rule)), OPERATORS[0])
    asked = st.selectbox("must be", OPERATORS, OPERATORS.index(operator), _spoken, key=f"{key} operator")
    value = rule.get(operator, "")
    words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = st.text_input("value; several with commas between them", words, key=f"{key} value")
    return lambda: {"column": column, asked: _value(str(asked), text)}


def _whole(rule: dict[str, Any]) -> Any:
    test = {name: value for name, value in rule.items() if name not in ("reason", "justification")}
    text = st.text_area("condition, as YAML", yaml.safe_dump(test, sort_keys=False), height=200)
    return lambda: _condition(text)


def _condition(text: str) -> dict[str, Any]:
    return _CONDITION.read(text, "the condition").content


def _value(operator: str, text: str) -> Any:
    if operator in ("in", "is_not"):
        return [_scalar(part) for part in text.split(",")]
    return _scalar(text)


def _scalar(text: str) -> Any:
    word = text.strip()
    if word in ("true", "false"):
        return word == "true"
    try:
        number = float(word)
    except ValueError:
        return word
    return int(number) if number.is_integer() and "." not in word else number


def _operators(rule: dict[str, Any]) -> list[str]:
    return [name for name in OPERATORS if name in rule]


def _word(value: Any) -> str:
    return "not known" if value is None else {True: "yes", False: "no"}.get(value, str(value))


def _spoken(operator: str) -> str:
    return operator.replace("_", " ")
