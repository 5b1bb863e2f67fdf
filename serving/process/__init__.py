"""What every service process does: listen, log, count, end."""
