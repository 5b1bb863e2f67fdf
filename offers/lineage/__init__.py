"""Lineage: reports to a data catalogue what each step read and wrote, as OpenLineage events."""
