"""Models made of the layers, in `keras.ops` alone."""

from ktransformer.layers import transpose_keys as transpose_keys
from ktransformer.models.block_model import BlockModel as BlockModel
from ktransformer.models.block_model import EncoderModel as EncoderModel
from ktransformer.models.causal_language_model import CAUSAL_PRESETS as CAUSAL_PRESETS
from ktransformer.models.causal_language_model import CausalLanguageModel as CausalLanguageModel
from ktransformer.models.decoder import Decoder as Decoder
from ktransformer.models.decoding_check import check_decoding as check_decoding
from ktransformer.models.encoder import Encoder as Encoder
from ktransformer.models.masked_language_model import MaskedLanguageModel as MaskedLanguageModel
from ktransformer.models.next_token_model import NextTokenModel as NextTokenModel
from ktransformer.models.sequence_classifier import SequenceClassifier as SequenceClassifier
from ktransformer.models.text_encoder import TEXT_POOLINGS as TEXT_POOLINGS
from ktransformer.models.text_encoder import TextEncoder as TextEncoder
from ktransformer.models.text_model import TextModel as TextModel
from ktransformer.models.transformer import PRESETS as PRESETS
from ktransformer.models.transformer import Transformer as Transformer
from ktransformer.models.vision_transformer import VISION_PRESETS as VISION_PRESETS
from ktransformer.models.vision_transformer import VisionTransformer as VisionTransformer
