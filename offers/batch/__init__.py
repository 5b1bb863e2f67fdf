"""Many customers in one go: scores in a table, and a campaign that keeps to capacity."""
