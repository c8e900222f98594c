"""The recipe of many-to-many models."""
