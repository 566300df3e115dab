"""The demo: the whole job on synthetic cases."""
