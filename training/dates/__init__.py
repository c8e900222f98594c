"""Dates of 23 locales to ISO 8601, from data to an exported model."""
