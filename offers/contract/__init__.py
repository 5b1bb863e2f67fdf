"""What is known of a data set: its columns, their roles, and how it is judged."""
