"""Training speed and memory, against the peers."""
