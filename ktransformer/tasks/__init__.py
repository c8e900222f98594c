"""Kinds of model, each with the way from its user's data to its user's answer."""

from ktransformer.runtime import supported_backend as supported_backend
from ktransformer.tasks.controls import Controls as Controls
from ktransformer.tasks.description import Description as Description
from ktransformer.tasks.folder import apply_settings as apply_settings
from ktransformer.tasks.folder import folder_files as folder_files
from ktransformer.tasks.folder import folder_kind as folder_kind
from ktransformer.tasks.folder import load as load
from ktransformer.tasks.folder import load_translator as load_translator
from ktransformer.tasks.folder import save as save
from ktransformer.tasks.folder import write as write
from ktransformer.tasks.generation_config import GenerationConfig as GenerationConfig
from ktransformer.tasks.id_generator import IdGenerator as IdGenerator
from ktransformer.tasks.id_generator import IdGeneratorDescription as IdGeneratorDescription
from ktransformer.tasks.image_classifier import ImageClassifier as ImageClassifier
from ktransformer.tasks.image_classifier import (
    ImageClassifierDescription as ImageClassifierDescription,
)
from ktransformer.tasks.mask_filler import Fill as Fill
from ktransformer.tasks.mask_filler import MaskFiller as MaskFiller
from ktransformer.tasks.mask_filler import MaskFillerDescription as MaskFillerDescription
from ktransformer.tasks.registry import register_task as register_task
from ktransformer.tasks.registry import registered_tasks as registered_tasks
from ktransformer.tasks.registry import with_article as with_article
from ktransformer.tasks.resizing import Resizing as Resizing
from ktransformer.tasks.search_task import TEXT_SIGNATURES as TEXT_SIGNATURES
from ktransformer.tasks.shortlist import Shortlist as Shortlist
from ktransformer.tasks.task import LiteSignature as LiteSignature
from ktransformer.tasks.task import SignatureCheck as SignatureCheck
from ktransformer.tasks.task import Task as Task
from ktransformer.tasks.text_classifier import TextClassifier as TextClassifier
from ktransformer.tasks.text_classifier import (
    TextClassifierDescription as TextClassifierDescription,
)
from ktransformer.tasks.text_embedder import TextEmbedder as TextEmbedder
from ktransformer.tasks.text_embedder import TextEmbedderDescription as TextEmbedderDescription
from ktransformer.tasks.text_generator import TextGenerator as TextGenerator
from ktransformer.tasks.text_generator import (
    TextGeneratorDescription as TextGeneratorDescription,
)
from ktransformer.tasks.translator import Translator as Translator
from ktransformer.tasks.translator_description import (
    TranslatorDescription as TranslatorDescription,
)
