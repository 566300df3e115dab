"""Receiving: an HTTP door for tools that can only send JSON."""
