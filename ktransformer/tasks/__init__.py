"""Kinds of model, each with the way from its user's data to its user's answer."""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.runtime import supported_backend as supported_backend

if TYPE_CHECKING:
    from ktransformer.tasks.controls import Controls
    from ktransformer.tasks.description import Description
    from ktransformer.tasks.encoder_task import EncoderDescription, EncoderTask
    from ktransformer.tasks.folder import (
        apply_settings,
        folder_files,
        folder_kind,
        load,
        load_translator,
        save,
        write,
    )
    from ktransformer.tasks.generation_config import GenerationConfig
    from ktransformer.tasks.graph_function import graph_method
    from ktransformer.tasks.id_generator import IdGenerator, IdGeneratorDescription
    from ktransformer.tasks.image_classifier import ImageClassifier, ImageClassifierDescription
    from ktransformer.tasks.mask_filler import Fill, MaskFiller, MaskFillerDescription
    from ktransformer.tasks.registry import register_task, registered_tasks, with_article
    from ktransformer.tasks.resizing import Resizing
    from ktransformer.tasks.search_task import TEXT_SIGNATURES
    from ktransformer.tasks.shortlist import Shortlist
    from ktransformer.tasks.task import LiteSignature, SignatureCheck, Task
    from ktransformer.tasks.text_classifier import TextClassifier, TextClassifierDescription
    from ktransformer.tasks.text_embedder import TextEmbedder, TextEmbedderDescription
    from ktransformer.tasks.text_generator import TextGenerator, TextGeneratorDescription
    from ktransformer.tasks.translator import Translator
    from ktransformer.tasks.translator_description import TranslatorDescription

__all__ = [
    "TEXT_SIGNATURES",
    "Controls",
    "Description",
    "EncoderDescription",
    "EncoderTask",
    "Fill",
    "GenerationConfig",
    "IdGenerator",
    "IdGeneratorDescription",
    "ImageClassifier",
    "ImageClassifierDescription",
    "LiteSignature",
    "MaskFiller",
    "MaskFillerDescription",
    "Resizing",
    "Shortlist",
    "SignatureCheck",
    "Task",
    "TextClassifier",
    "TextClassifierDescription",
    "TextEmbedder",
    "TextEmbedderDescription",
    "TextGenerator",
    "TextGeneratorDescription",
    "Translator",
    "TranslatorDescription",
    "apply_settings",
    "folder_files",
    "folder_kind",
    "graph_method",
    "load",
    "load_translator",
    "register_task",
    "registered_tasks",
    "save",
    "with_article",
    "write",
]

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Controls": "controls",
            "Description": "description",
            "EncoderDescription": "encoder_task",
            "EncoderTask": "encoder_task",
            "apply_settings": "folder",
            "folder_files": "folder",
            "folder_kind": "folder",
            "load": "folder",
            "load_translator": "folder",
            "save": "folder",
            "write": "folder",
            "GenerationConfig": "generation_config",
            "graph_method": "graph_function",
            "IdGenerator": "id_generator",
            "IdGeneratorDescription": "id_generator",
            "ImageClassifier": "image_classifier",
            "ImageClassifierDescription": "image_classifier",
            "Fill": "mask_filler",
            "MaskFiller": "mask_filler",
            "MaskFillerDescription": "mask_filler",
            "register_task": "registry",
            "registered_tasks": "registry",
            "with_article": "registry",
            "Resizing": "resizing",
            "TEXT_SIGNATURES": "search_task",
            "Shortlist": "shortlist",
            "LiteSignature": "task",
            "SignatureCheck": "task",
            "Task": "task",
            "TextClassifier": "text_classifier",
            "TextClassifierDescription": "text_classifier",
            "TextEmbedder": "text_embedder",
            "TextEmbedderDescription": "text_embedder",
            "TextGenerator": "text_generator",
            "TextGeneratorDescription": "text_generator",
            "Translator": "translator",
            "TranslatorDescription": "translator_description",
        },
    )
