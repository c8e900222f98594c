"""A server's speed, against the bare engine and another server."""
