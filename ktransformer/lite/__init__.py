"""One .tflite of any model: its export, and what runs it."""

from ktransformer import supported_backend as supported_backend
from ktransformer.lite.engine import LiteTranslator as LiteTranslator
from ktransformer.lite.export import QUANTIZATIONS as QUANTIZATIONS
from ktransformer.lite.export import export_lite as export_lite
from ktransformer.lite.export import tokenizer_beside as tokenizer_beside
from ktransformer.lite.model import LiteModel as LiteModel
