"""The .tflite: written, checked and opened again."""

from ktransformer.exporting.lite.export import QUANTIZATIONS as QUANTIZATIONS
from ktransformer.exporting.lite.export import export_lite as export_lite
from ktransformer.exporting.lite.export import tokenizer_beside as tokenizer_beside
from ktransformer.exporting.lite.model import LiteModel as LiteModel
