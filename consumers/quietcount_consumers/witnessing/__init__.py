"""Witnessing: partners who vouch for a ledger's history, what they keep of it, and how a project asks them."""
