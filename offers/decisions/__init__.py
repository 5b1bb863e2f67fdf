"""What was decided about customers, and what they did."""
