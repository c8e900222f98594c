"""Tests of `ktransformer.conversion`."""
