"""Opens a model in any of its forms, such as a folder or a .tflite; runs translators."""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.runtime import supported_backend as supported_backend

if TYPE_CHECKING:
    from ktransformer.engines.annotation import Annotation
    from ktransformer.engines.anything import load
    from ktransformer.engines.attention import draw_attention
    from ktransformer.engines.converted import CTranslate2Engine, OnnxEngine
    from ktransformer.engines.engine import Engine
    from ktransformer.engines.lite import LiteEngine
    from ktransformer.engines.model_engine import ModelEngine
    from ktransformer.engines.opening import load_engine, open_model
    from ktransformer.engines.saved_model import SavedModelEngine
    from ktransformer.engines.scoring import PairScore, score_pairs
    from ktransformer.engines.streams import (
        batches_by_length,
        translate_blocks,
        translate_lines,
        translate_pieces,
    )
    from ktransformer.engines.task_model import PublishedModel, TaskModel
    from ktransformer.engines.translations import (
        DocumentSentence,
        DocumentTranslation,
        TermTranslation,
        Translation,
    )
    from ktransformer.runtime.threads import available_cores
    from ktransformer.tasks import load_translator

__all__ = [
    "Annotation",
    "CTranslate2Engine",
    "DocumentSentence",
    "DocumentTranslation",
    "Engine",
    "LiteEngine",
    "ModelEngine",
    "OnnxEngine",
    "PairScore",
    "PublishedModel",
    "SavedModelEngine",
    "TaskModel",
    "TermTranslation",
    "Translation",
    "available_cores",
    "batches_by_length",
    "draw_attention",
    "load",
    "load_engine",
    "load_translator",
    "open_model",
    "score_pairs",
    "translate_blocks",
    "translate_lines",
    "translate_pieces",
]

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Annotation": "annotation",
            "load": "anything",
            "draw_attention": "attention",
            "CTranslate2Engine": "converted",
            "OnnxEngine": "converted",
            "Engine": "engine",
            "ModelEngine": "model_engine",
            "LiteEngine": "lite",
            "load_engine": "opening",
            "open_model": "opening",
            "SavedModelEngine": "saved_model",
            "PairScore": "scoring",
            "score_pairs": "scoring",
            "batches_by_length": "streams",
            "translate_blocks": "streams",
            "translate_lines": "streams",
            "translate_pieces": "streams",
            "PublishedModel": "task_model",
            "TaskModel": "task_model",
            "DocumentSentence": "translations",
            "DocumentTranslation": "translations",
            "TermTranslation": "translations",
            "Translation": "translations",
            "available_cores": "ktransformer.runtime.threads",
            "load_translator": "ktransformer.tasks",
        },
    )
