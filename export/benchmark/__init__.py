"""Decoding speed, against the peers and against another checkout."""
