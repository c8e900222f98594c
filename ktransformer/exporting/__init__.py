"""Writes a task as one SavedModel or one .tflite, and opens these."""

from ktransformer.runtime import supported_backend as supported_backend  # isort: skip
from ktransformer.exporting.lite import QUANTIZATIONS as QUANTIZATIONS
from ktransformer.exporting.lite import LiteModel as LiteModel
from ktransformer.exporting.lite import export_lite as export_lite
from ktransformer.exporting.lite import tokenizer_beside as tokenizer_beside
from ktransformer.exporting.saved_model import SavedModel as SavedModel
from ktransformer.exporting.saved_model import export_saved_model as export_saved_model
from ktransformer.exporting.saved_model import is_saved_model as is_saved_model
from ktransformer.exporting.saved_model import write_saved_model as write_saved_model
