"""The ledger: a hash-chained record of what was declared and released, its places in the log, and its witness."""
