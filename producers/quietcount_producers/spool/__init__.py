"""Events kept until the log answers."""
