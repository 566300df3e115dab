"""What a catalogue will publish, before any budget is spent: margins, answers to questions, and what to change."""
