"""The script that Streamlit runs for each look at a page."""

import streamlit as st

from serving.app import campaign, catalogue, customer, experiments, model, watch
from serving.app.screen import guarded

st.set_page_config(page_title="Offers", layout="wide")
PAGES = [
    st.Page(guarded(customer.page), title="Customer", url_path="customer", default=True),
    st.Page(guarded(model.page), title="Model", url_path="model"),
    st.Page(guarded(watch.page), title="Watch", url_path="watch"),
    st.Page(guarded(experiments.page), title="Experiments", url_path="experiments"),
    st.Page(guarded(campaign.page), title="Campaign", url_path="campaign"),
    st.Page(guarded(catalogue.page), title="Catalogue", url_path="catalogue"),
]
st.navigation(PAGES).run()
