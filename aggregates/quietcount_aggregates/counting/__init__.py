"""Counting: from a batch of records to columns, to the state, and to the contributions of each cell."""
