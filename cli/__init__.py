"""The `offers` command: the one place that knows all rooms; it imports them when they are needed."""
