"""Measures how well translators align words; see README.md."""
