"""Reports for people: pages, tables and pictures."""
