"""Eleven claims about the Transformer, measured."""
