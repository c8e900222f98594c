"""Kinds of model, each with the way from its user's data to its user's answer."""

from ktransformer.runtime import supported_backend as supported_backend
from ktransformer.tasks.description import Description as Description
from ktransformer.tasks.description import ImageClassifierDescription as ImageClassifierDescription
from ktransformer.tasks.description import LanguageModelDescription as LanguageModelDescription
from ktransformer.tasks.description import TranslatorDescription as TranslatorDescription
from ktransformer.tasks.description import with_article as with_article
from ktransformer.tasks.id_translator import SPECIAL_IDS as SPECIAL_IDS
from ktransformer.tasks.image_classifier import ImageClassifier as ImageClassifier
from ktransformer.tasks.mask_filler import Fill as Fill
from ktransformer.tasks.mask_filler import MaskFiller as MaskFiller
from ktransformer.tasks.servable import LiteSignature as LiteSignature
from ktransformer.tasks.servable import Servable as Servable
from ktransformer.tasks.shortlist import Shortlist as Shortlist
from ktransformer.tasks.translator import TEXT_SIGNATURES as TEXT_SIGNATURES
from ktransformer.tasks.translator import Translator as Translator
