"""The plan of a catalogue: files of events are counted, and what is planned is put into words."""
