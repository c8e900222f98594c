"""Writes a task as one SavedModel or one .tflite, and opens these."""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.runtime import supported_backend as supported_backend

if TYPE_CHECKING:
    from ktransformer.exporting.lite.export import QUANTIZATIONS, export_lite, tokenizer_beside
    from ktransformer.exporting.lite.model import LiteModel
    from ktransformer.exporting.saved_model.export import export_saved_model, write_saved_model
    from ktransformer.exporting.saved_model.opened import SavedModel, is_saved_model

__all__ = [
    "QUANTIZATIONS",
    "LiteModel",
    "SavedModel",
    "export_lite",
    "export_saved_model",
    "is_saved_model",
    "tokenizer_beside",
    "write_saved_model",
]

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "QUANTIZATIONS": "lite.export",
            "export_lite": "lite.export",
            "tokenizer_beside": "lite.export",
            "LiteModel": "lite.model",
            "export_saved_model": "saved_model.export",
            "write_saved_model": "saved_model.export",
            "SavedModel": "saved_model.opened",
            "is_saved_model": "saved_model.opened",
        },
    )
