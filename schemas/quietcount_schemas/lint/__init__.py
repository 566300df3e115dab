"""What a schema may carry, and how it may change."""
