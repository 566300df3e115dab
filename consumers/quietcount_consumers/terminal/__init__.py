"""What the commands share at a terminal: options, moments in time, and how rows and findings are shown."""
