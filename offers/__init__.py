"""Which offer a bank should make to which customer, kept right while the world changes."""
