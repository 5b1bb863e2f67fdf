"""Scoring of many customers into a table, and campaigns planned within their capacity."""
