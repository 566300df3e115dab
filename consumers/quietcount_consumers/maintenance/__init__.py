"""What looks at a ledger and a state, and what mends them after a loss."""
