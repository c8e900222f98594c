"""Measures the cleaning of training text."""
