"""Events from files: reading, checking, sending."""
