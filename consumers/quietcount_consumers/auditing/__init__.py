"""The audit: the guarantee, measured on synthetic events that run through the real code."""
