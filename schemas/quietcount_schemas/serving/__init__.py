"""What every server of ours shares: the socket that it listens on, and its certificate."""
