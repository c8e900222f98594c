"""Writes a task as one SavedModel or one .tflite, and opens these."""

from ktransformer.runtime import supported_backend as supported_backend  # isort: skip
from ktransformer.exporting.lite.export import QUANTIZATIONS as QUANTIZATIONS
from ktransformer.exporting.lite.export import export_lite as export_lite
from ktransformer.exporting.lite.export import tokenizer_beside as tokenizer_beside
from ktransformer.exporting.lite.model import LiteModel as LiteModel
from ktransformer.exporting.saved_model.export import export_saved_model as export_saved_model
from ktransformer.exporting.saved_model.export import write_saved_model as write_saved_model
from ktransformer.exporting.saved_model.opened import SavedModel as SavedModel
from ktransformer.exporting.saved_model.opened import is_saved_model as is_saved_model
