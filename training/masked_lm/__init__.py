"""A masked language model, trained, scored and used."""
