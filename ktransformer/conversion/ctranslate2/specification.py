"""A translator's model as a specification of CTranslate2: what it can express, and the weights."""

from typing import Any

import keras
import numpy as np

from ktransformer.conversion.problems import Problems
from ktransformer.layers.positions import Learned, PositionEncoding, Rotary, Sinusoidal
from ktransformer.layers.positions import get as get_positions
from ktransformer.models import Transformer
from ktransformer.tasks import Translator

_ACTIVATIONS = {
    keras.activations.relu: "RELU",
    keras.activations.silu: "SWISH",
    keras.activations.tanh: "Tanh",
    keras.activations.sigmoid: "Sigmoid",
    keras.activations.gelu: "GELU",
}
_POSITIONS = (Sinusoidal, Learned, Rotary, PositionEncoding)
# Settings of a search that CTranslate2 lacks, or under which it ranks otherwise: after an exclusion
# it gives the probability of what is excluded to the rest. Each with its off value.
_SETTINGS = {
    "min_length": 1,
    "no_repeat_ngram_size": 0,
    "coverage_penalty": 0.0,
    "early_stopping": True,
    "score_forced_end": True,
}


def find_obstacles(translator: Translator, problems: Problems) -> None:
    """Records what CTranslate2 cannot express of a translator."""
    model = translator.model
    if type(model) is not Transformer:
        problems.add(f"its model is a {type(model).__name__}, which may compute otherwise")
    positions = get_positions(model.positions)
    if type(positions) not in _POSITIONS:
        problems.add(
            f"positions must be sinusoidal, learned, rotary or none; got {_name(positions)}"
        )
    if model.feed_forward == "plain" and _activation(model) not in _ACTIVATIONS:
        names = ", ".join(function.__name__ for function in _ACTIVATIONS)
        problems.add(f"activation must be one of {names}; got {model.activation!r}")
    if translator.shortlist is not None:
        problems.add("a shortlist has no counterpart there")
    if translator.rules:
        problems.add(f"rules must be empty; got {translator.rules[0]!r}")
    for name in ("tag", "target_language"):
        if getattr(translator.decoding, name) is not None:
            problems.add(f"{name} must be null, for there the texts begin with its token")
    for name, off in _SETTINGS.items():
        value = getattr(translator.decoding, name)
        if value != off:
            problems.add(f"{name} must be {off}, for CTranslate2 ranks otherwise; got {value}")


def _activation(model: Transformer) -> Any:
    return keras.activations.get(model.activation)


def _name(positions: PositionEncoding) -> str:
    name = keras.saving.serialize_keras_object(positions)["class_name"]
    return f"{name}({positions.get_config()})" if positions.get_config() else str(name)


def make_spec(translator: Translator, specs: Any) -> Any:
    """Makes the specification of a model that has no obstacle.

    Args:
        translator: The translator; its model is built and computes in float32.
        specs: The module `ctranslate2.specs`.

    Returns:
        A `TransformerSpec`, with weights, vocabularies and configuration.
    """
    model = translator.model
    gated = {"swiglu": "SWISH", "geglu": "GELU"}
    activation = gated.get(model.feed_forward) or _ACTIVATIONS[_activation(model)]
    options: dict[str, Any] = {
        "num_heads": model.num_heads,
        "pre_norm": model.norm_first,
        "activation": getattr(specs.common_spec.Activation, activation),
        "ffn_glu": model.feed_forward in gated,
        "rms_norm": model.norm == "rms",
    }
    positions = get_positions(model.positions)
    if isinstance(positions, Rotary):
        options |= {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": positions.base}
    layers = specs.transformer_spec
    spec = layers.TransformerSpec(
        layers.TransformerEncoderSpec(model.num_layers, **options),
        layers.TransformerDecoderSpec(model.num_decoder_layers, **options),
    )
    _fill_stack(spec.encoder, spec.encoder.embeddings[0], model.encoder, model.source_embedding)
    _fill_stack(spec.decoder, spec.decoder.embeddings, model.decoder, model.target_embedding)
    spec.decoder.projection.weight = _array(model.output_table())
    if model.output_bias:
        spec.decoder.projection.bias = _array(model.output_bias_weight)
    _describe(spec, translator)
    return spec


def _describe(spec: Any, translator: Translator) -> None:
    """Registers the vocabularies, and names the special tokens."""
    model = translator.model
    sizes = model.source_vocabulary_size or model.vocabulary_size, model.vocabulary_size
    source = translator.tokenizer.pieces(range(sizes[0]))
    target = translator.target_tokenizer.pieces(range(sizes[1]))
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    special, config = translator.target_tokenizer.special_ids, spec.config
    config.unk_token, config.bos_token = target[special.unknown], target[special.start]
    config.eos_token = target[special.end]
    config.decoder_start_token = config.bos_token
    config.add_source_bos, config.add_source_eos = False, True
    config.layer_norm_epsilon = model.epsilon


def _fill_stack(spec: Any, embeddings: Any, stack: Any, embedding: Any) -> None:
    embeddings.weight = _array(embedding.embeddings)
    spec.scale_embeddings = bool(embedding.scale)
    if hasattr(spec, "position_encodings"):
        spec.position_encodings.encodings = _position_table(embedding)
    if stack.final_norm is not None:
        _fill_norm(spec.layer_norm, stack.final_norm)
    for layer, block in zip(spec.layer, stack.blocks, strict=True):
        _fill_self_attention(layer.self_attention, block.self_attention)
        _fill_norm(layer.self_attention.layer_norm, block.self_attention_norm)
        if hasattr(layer, "attention"):
            _fill_cross_attention(layer.attention, block.cross_attention)
            _fill_norm(layer.attention.layer_norm, block.cross_attention_norm)
        _fill_feed_forward(layer.ffn, block.feed_forward)
        _fill_norm(layer.ffn.layer_norm, block.feed_forward_norm)


def _position_table(embedding: Any) -> np.ndarray:
    """Returns what is added to the token vectors, `[max_length, D]`."""
    positions = np.arange(embedding.max_length, dtype=np.int32)
    vectors = embedding.positions.vectors(embedding, positions)
    if vectors is None:
        return np.zeros((embedding.max_length, embedding.d_model), np.float32)
    return _array(vectors)


def _fill_self_attention(spec: Any, attention: Any) -> None:
    fused = attention.input_projection
    _fill_linear(spec.linear[0], fused, attention, queries=attention.num_heads)
    _fill_linear(spec.linear[1], attention.output_projection)


def _fill_cross_attention(spec: Any, attention: Any) -> None:
    _fill_linear(spec.linear[0], attention.query_projection)
    _fill_linear(spec.linear[1], attention.memory_projection, attention, queries=0)
    _fill_linear(spec.linear[2], attention.output_projection)


def _fill_linear(spec: Any, dense: Any, attention: Any = None, queries: int = 0) -> None:
    """Fills a linear layer.

    Args:
        spec: The specification of the layer.
        dense: Our layer; its kernel is `[in, out]`, the other's `[out, in]`.
        attention: The attention that a fused projection belongs to.
        queries: The heads of queries that the outputs of the fused projection begin with.
    """
    spec.weight = _repeat_heads(_array(dense.kernel).T, attention, queries)
    if dense.use_bias:
        spec.bias = _repeat_heads(_array(dense.bias), attention, queries)


def _repeat_heads(array: np.ndarray, attention: Any, queries: int) -> np.ndarray:
    """Repeats shared heads of keys and values, one for each head of queries.

    CTranslate2's cross-attention does not share them.

    Args:
        array: `[out]` or `[out, in]`.
        attention: The attention; None for a projection without such heads.
        queries: The heads of queries before those of the keys and the values.
    """
    if attention is None:
        return np.ascontiguousarray(array)
    heads = array.reshape(-1, attention.head_dim, *array.shape[1:])
    group = attention.num_heads // attention.num_kv_heads
    heads = np.concatenate([heads[:queries], np.repeat(heads[queries:], group, axis=0)])
    return heads.reshape(-1, *array.shape[1:])


def _fill_feed_forward(spec: Any, network: Any) -> None:
    _fill_linear(spec.linear_0, network.hidden_projection)
    _fill_linear(spec.linear_1, network.output_projection)
    if hasattr(spec, "linear_0_noact"):
        _fill_linear(spec.linear_0, network.gate_projection)
        _fill_linear(spec.linear_0_noact, network.hidden_projection)


def _fill_norm(spec: Any, norm: Any) -> None:
    spec.gamma = _array(norm.gamma)
    if hasattr(spec, "beta"):
        spec.beta = _array(norm.beta)


def _array(values: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(values).astype(np.float32)
