"""What the audit plays: made-up stories and counts, run through the real code in projects of their own."""
