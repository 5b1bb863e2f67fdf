"""The steps of the pipelines as functions from files to files; the components call them."""
