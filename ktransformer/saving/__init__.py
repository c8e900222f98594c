"""Reads and writes trained models: weights, Keras files and the folder of a run."""
