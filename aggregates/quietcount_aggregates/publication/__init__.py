"""Publication: the ledger as a file that anyone may have."""
