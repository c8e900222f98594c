"""A causal language model, trained, scored and used."""
