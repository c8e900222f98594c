"""A published sentence encoder, imported, exported and compared with sentence-transformers."""
