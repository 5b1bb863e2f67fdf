"""The model bundle: what training hands to serving."""
