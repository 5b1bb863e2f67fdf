"""History replayed through the loop, and schedules of training compared on it."""
