"""The Transformer's layers, in `keras.ops` alone: they run on every Keras backend."""

from ktransformer.layers.block_config import BlockConfig as BlockConfig
from ktransformer.layers.blocks import DecoderBlock as DecoderBlock
from ktransformer.layers.blocks import EncoderBlock as EncoderBlock
from ktransformer.layers.cache import Cache as Cache
from ktransformer.layers.cache import DecoderState as DecoderState
from ktransformer.layers.cache import KeyValues as KeyValues
from ktransformer.layers.cache import MaskPenalty as MaskPenalty
from ktransformer.layers.cache import Positions as Positions
from ktransformer.layers.cache import StepContext as StepContext
from ktransformer.layers.cache import transpose_keys as transpose_keys
from ktransformer.layers.cross_attention import MultiHeadCrossAttention as MultiHeadCrossAttention
from ktransformer.layers.feed_forward import FeedForward as FeedForward
from ktransformer.layers.gated_feed_forward import GatedFeedForward as GatedFeedForward
from ktransformer.layers.key_span import KeySpan as KeySpan
from ktransformer.layers.layer_normalization import LayerNormalization as LayerNormalization
from ktransformer.layers.masks import attention_mask as attention_mask
from ktransformer.layers.patch_embedding import PatchEmbedding as PatchEmbedding
from ktransformer.layers.positional_embedding import PositionalEmbedding as PositionalEmbedding
from ktransformer.layers.positions import PositionEncoding as PositionEncoding
from ktransformer.layers.positions import sinusoidal_positions as sinusoidal_positions
from ktransformer.layers.rms_normalization import RMSNormalization as RMSNormalization
from ktransformer.layers.self_attention import MultiHeadSelfAttention as MultiHeadSelfAttention
from ktransformer.layers.typed_embedding import TypedEmbedding as TypedEmbedding
