"""The script that Streamlit runs for each look at a page."""

from threading import Thread

import streamlit as st

from serving.app import campaign, catalogue, customer, experiments, model, watch
from serving.app.screen import guarded, plain
from serving.app.signing import person

st.set_page_config(page_title="Offers", layout="wide")


@st.cache_resource(show_spinner=False)
def look_ahead() -> None:
    """Begin once to read the logs of experiments, while somebody looks at the first page."""
    Thread(target=experiments.look_ahead, daemon=True).start()


@guarded
def pages() -> None:
    """Show the page that was asked for, to whom the sign-on lets in."""
    look_ahead()
    name = person()
    shown = st.navigation(
        [
            st.Page(guarded(customer.page), title="Customer", url_path="customer", default=True),
            st.Page(guarded(model.page), title="Model", url_path="model"),
            st.Page(guarded(watch.page), title="Watch", url_path="watch"),
            st.Page(guarded(experiments.page), title="Experiments", url_path="experiments"),
            st.Page(guarded(campaign.page), title="Campaign", url_path="campaign"),
            st.Page(guarded(catalogue.page), title="Catalogue", url_path="catalogue"),
        ]
    )
    if name:
        st.sidebar.caption(plain(f"Signed on as {name}"))
    shown.run()


pages()
