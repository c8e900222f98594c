"""The format of CTranslate2: written from a translator, and opened with its library."""

from ktransformer.conversion.ctranslate2.export import export_ctranslate2 as export_ctranslate2
from ktransformer.conversion.ctranslate2.model import CTranslate2Model as CTranslate2Model
from ktransformer.conversion.ctranslate2.model import is_ctranslate2 as is_ctranslate2
