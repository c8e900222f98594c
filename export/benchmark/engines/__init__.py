"""One engine a file: ours and the peers'."""
