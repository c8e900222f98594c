"""Models with their data's ways in and out, their SavedModels, and what translates with either."""

from ktransformer import supported_backend as supported_backend
from ktransformer.serving.description import Description as Description
from ktransformer.serving.description import (
    ImageClassifierDescription as ImageClassifierDescription,
)
from ktransformer.serving.description import LanguageModelDescription as LanguageModelDescription
from ktransformer.serving.description import TranslatorDescription as TranslatorDescription
from ktransformer.serving.description import with_article as with_article
from ktransformer.serving.engine import Engine as Engine
from ktransformer.serving.engine import ModelEngine as ModelEngine
from ktransformer.serving.engine import Translation as Translation
from ktransformer.serving.engine import batches_by_length as batches_by_length
from ktransformer.serving.engine import translate_blocks as translate_blocks
from ktransformer.serving.engine import translate_lines as translate_lines
from ktransformer.serving.id_translator import SPECIAL_IDS as SPECIAL_IDS
from ktransformer.serving.image_classifier import ImageClassifier as ImageClassifier
from ktransformer.serving.mask_filler import Fill as Fill
from ktransformer.serving.mask_filler import MaskFiller as MaskFiller
from ktransformer.serving.saved_model import SavedModel as SavedModel
from ktransformer.serving.saved_model import SavedModelEngine as SavedModelEngine
from ktransformer.serving.saved_model import export_saved_model as export_saved_model
from ktransformer.serving.saved_model import is_saved_model as is_saved_model
from ktransformer.serving.saved_model import write_saved_model as write_saved_model
from ktransformer.serving.servable import LiteSignature as LiteSignature
from ktransformer.serving.servable import Servable as Servable
from ktransformer.serving.shortlist import Shortlist as Shortlist
from ktransformer.serving.translator import TEXT_SIGNATURES as TEXT_SIGNATURES
from ktransformer.serving.translator import Translator as Translator
