"""What a period's decisions and outcomes say, and what follows from it."""
