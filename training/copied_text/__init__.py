"""Copied text: how many tags, placeholders, URLs and emoji come back from a translation."""
