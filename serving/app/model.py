"""Model: the releases of the ledger, their evidence, and what people decide about them with keys of their own."""

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from offers.governance.comparison import differences, facts_of
from offers.governance.ledger import Ledger
from offers.governance.listing import HEAD, row
from offers.governance.market_release import AnyRelease, MarketRelease, fetch_any
from offers.governance.state import Release
from offers.reports.card import card_of, markdown
from offers.settings import Settings
from serving.app import place
from serving.app.commands import run
from serving.app.quality import show_quality
from serving.app.screen import advice, part, plain, table
from serving.app.signing import Key, key_field

OWN = "that of these pages"
ACTIONS = ("approve", "reject", "promote", "roll back")


def page() -> None:
    """Show the page."""
    st.title("Model")
    settings = Settings.from_env()
    homes = {OWN: settings.home, **place.demonstrations(settings)}
    where = st.selectbox("Ledger", list(homes)) if len(homes) > 1 else OWN
    home = homes[where or OWN]
    ledger = place.ledger(settings) if home == settings.home else place.ledger_of(home)
    state, moment = ledger.state(), ledger.clock()
    releases = list(reversed(state.releases.values()))
    if not releases:
        advice("The ledger holds no release yet.", "make demo")
        return
    table(HEAD, [row(state, release, moment) for release in releases])
    names = [release.name for release in releases]
    chosen = st.selectbox("Release", names)
    record = state.releases[chosen or names[0]]
    release = opened(ledger, record, home)
    figures, card, difference, decide = st.tabs(("Figures", "Card", "Difference", "Decide"))
    with figures:
        facts(facts_of(release))
        if not isinstance(release, MarketRelease):
            show_quality(release.bundle)
    with card:
        if isinstance(release, MarketRelease):
            advice("The card of a market is the page of its evaluation.", f"offers model card {release.name}")
        else:
            st.markdown(markdown(card_of(release, state, ledger.entries(), ledger.head, moment)))
    with difference:
        champion = state.champion(record.act.contract)
        others = [name for name in names if name != record.name]
        # The champion stands first: it is what a release takes over from.
        others.sort(key=lambda name: champion is None or name != champion.name)
        _difference(ledger, release, others, home)
    with decide:
        if home == settings.home:
            _decide(record)
        else:
            advice("This ledger is a demonstration's; commands reach it by its home.", f"export OFFERS_HOME={home}")


def opened(ledger: Ledger, record: Release, home: Path) -> AnyRelease:
    """Open a release after checking every file of it."""
    return fetch_any(ledger.store, record.name, home)


def facts(values: Mapping[str, str]) -> None:
    """Show facts about a bundle: name and value."""
    table(("what", "value"), list(values.items()))


def _difference(ledger: Ledger, release: AnyRelease, others: list[str], home: Path) -> None:
    other = st.selectbox("Hold it against", others) if others else None
    if other is None:
        advice("This ledger has no other release to hold it against; that of a demonstration has two.")
        return
    second = fetch_any(ledger.store, other, home)
    rows = list(differences(release, second))
    if rows:
        table(("", release.name, second.name), rows)
    else:
        advice("The two are the same.")


@part
def _decide(record: Release) -> None:
    """Take a decision by the command that people use in a terminal, so the ledger's rules are the same."""
    action = st.radio("Decision", ACTIONS, horizontal=True)
    key = key_field("Such as keys/ann.pem.")
    needs_reason = action in ("reject", "roll back")
    reason = st.text_input("Why, for the ledger") if needs_reason else ""
    if not st.button("Sign"):
        return
    if key is None or (needs_reason and not reason):
        st.error(plain(f"Signing needs the file of your key{' and a reason' if needs_reason else ''}."))
        return
    with st.spinner("The ledger is asked ..."):
        succeeded, said = decided(action, record, key, reason)
    (st.success if succeeded else st.error)(plain(said))


def decided(action: str, record: Release, key: Key, reason: str) -> tuple[bool, str]:
    """Run `offers model ACTION`; returns whether the ledger took it, and the sentence."""
    where = ["rollback", "--contract", record.act.contract] if action == "roll back" else [action, record.name]
    return run(["model", *where, *(["--reason", reason] if reason else [])], key)
