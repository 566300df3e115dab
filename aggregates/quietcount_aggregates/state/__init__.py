"""The private state: its file, what cases have used up, and the keyed hashes that stand for cases and events."""
