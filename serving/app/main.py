"""The script that Streamlit runs for each look at a page."""

import streamlit as st

from serving.app import customer, model
from serving.app.screen import guarded

st.set_page_config(page_title="Offers", layout="wide")
PAGES = [
    st.Page(guarded(customer.page), title="Customer", url_path="customer", default=True),
    st.Page(guarded(model.page), title="Model", url_path="model"),
]
st.navigation(PAGES).run()
