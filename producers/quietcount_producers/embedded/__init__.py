"""The log without a broker: one SQLite file."""
