"""The contract of a data set: its columns, their roles, and how models of it are judged."""
