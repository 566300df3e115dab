"""What an event is: its type and fields, its dates and periods, and the numbers it may hold."""
