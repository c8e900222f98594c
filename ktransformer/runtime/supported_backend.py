"""Imported before Keras where nothing works on its other backends: raises a sentence there."""

from ktransformer.runtime.backend import backend_message, chosen_backend

BACKEND = chosen_backend()
if BACKEND not in ("tensorflow", "jax"):
    raise ImportError(backend_message("ktransformer"))
