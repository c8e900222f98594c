"""Compares exports and engines with the model that they were made of."""
