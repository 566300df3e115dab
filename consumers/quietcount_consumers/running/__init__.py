"""The lasting service: its loop, its conditions, its clock and its signals."""
