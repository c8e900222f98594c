"""Models made of the layers, in `keras.ops` alone."""

from ktransformer.models.decoder import Decoder as Decoder
from ktransformer.models.encoder import Encoder as Encoder
from ktransformer.models.transformer import PRESETS as PRESETS
from ktransformer.models.transformer import Transformer as Transformer
