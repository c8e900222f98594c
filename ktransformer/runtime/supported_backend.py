"""Raises a clear ImportError on unsupported Keras backends; import it before Keras."""

from ktransformer.runtime.backend import backend_message, chosen_backend

BACKEND = chosen_backend()
if BACKEND not in ("tensorflow", "jax"):
    raise ImportError(backend_message("ktransformer"))
