"""The process: its backend, its allocator and what its libraries log."""
