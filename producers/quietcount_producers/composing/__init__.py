"""From what is known of an event to the record that is appended."""
