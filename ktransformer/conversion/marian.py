"""Marian, the models of OPUS-MT: configuration, vocabulary and weights."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ktransformer.config import Config
from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.importing import Imported
from ktransformer.conversion.marian_vocabulary import START, Vocabulary, read_vocabulary
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.registry import register_family
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.tensors import TensorReader
from ktransformer.conversion.weight_table import (
    Weight,
    check_copies,
    check_layers,
    check_shape,
    joined,
    joined_transposed,
    load_weights,
)
from ktransformer.layers.positions.sinusoidal import sinusoidal_positions
from ktransformer.saving.run import make_model
from ktransformer.tasks import Translator
from ktransformer.text import START_ID, UNKNOWN_ID, Tokenizer

_ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
_TABLE, _BIAS = "model.shared.weight", "final_logits_bias"
# Copies of the table, which old files hold, and the sinusoids, which follow from the configuration.
_COPIES = (
    "lm_head.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
)
_ROUNDING = 1e-3  # Of positions in float16.
_DECODER_POSITIONS = "model.decoder.embed_positions.weight"
_POSITIONS = r"model\.(en|de)coder\.embed_positions\.weight"
# Hugging Face has no start token: exp(-1e3) is 0, so that the softmax is over the others alone. A
# lower bias would only raise a smoothed loss.
_START_BIAS = -1e3
_APART = "source, target and output would have tables of their own"


class _Ids(NamedTuple):
    """Their special ids; `start` is the row that decoding starts from, mostly the padding's."""

    pad: int
    end: int
    start: int


@register_family("marian")
def convert(folder: PublishedFolder, problems: Problems) -> Imported:
    """Converts a MarianMTModel with its two SentencePiece models and vocab.json."""
    settings = Settings(folder.config, problems)
    options = _read_model(settings)
    size = options.pop("vocabulary_size")
    ids = _read_ids(settings, size)
    settings.finish()
    vocabulary = read_vocabulary(folder, problems, ids.pad, ids.end)
    generation = Settings(folder.generation_config, problems, "the generation settings")
    unknown = vocabulary.theirs[UNKNOWN_ID]
    options |= _read_generation(generation, ids, unknown, options["max_length"])
    tensors = folder.tensors
    for side, number in (("en", "num_layers"), ("de", "num_decoder_layers")):
        check_layers(
            tensors, f"model.{side}coder.layers.", options[number], f"{side}coder_layers", problems
        )
    check_shape(tensors, _TABLE, (size, options["d_model"]), problems)
    _check_copies(folder, problems, options)
    problems.raise_if_any(folder.path)
    config = Config().replace({**options, "vocabulary_size": len(vocabulary.table)})
    model = make_model(config, len(vocabulary.table))
    rows = vocabulary.rows(ids.start)
    load_weights(
        model,
        _table(options, rows, _start_offset(tensors, options)),
        tensors,
        problems,
        unused=[*(name.replace(".", r"\.") for name in _COPIES), _POSITIONS],
    )
    problems.raise_if_any(folder.path)
    source, target = (
        Tokenizer.from_table(spm, vocabulary.table, start_piece=START) for spm in vocabulary.models
    )
    task = Translator(model, source, config.decoding, target_tokenizer=target)
    return Imported(task, config, tuple(_notes(source, target, vocabulary)))


def _read_model(settings: Settings) -> dict[str, Any]:
    """Returns their vocabulary_size and our `ModelConfig`, with transformers' defaults."""
    settings.ignore("bos_token_id", "extra_pos_embeddings", "id2label")
    settings.ignore("classif_dropout", "classifier_dropout", "encoder_layerdrop")
    settings.ignore("decoder_layerdrop", "output_past", "prefix", "use_bfloat16", "sep_token_id")
    # Of every model in older versions, and without a meaning for this one.
    settings.ignore("add_cross_attention", "chunk_size_feed_forward", "cross_attention_hidden_size")
    settings.ignore("problem_type", "tie_encoder_decoder")
    settings.require("pruned_heads", {}, why="some of its heads would be missing")
    for name in ("normalize_before", "add_final_layer_norm"):
        settings.require(name, False, why="its normalisation would stand in another place")
    settings.require("normalize_embedding", False, why="its embeddings would be normalised")
    settings.require("static_position_embeddings", True, why="its positions would be learned")
    settings.require("add_bias_logits", False, why="its output bias would be another")
    settings.require("is_encoder_decoder", True, why="it would be no translator")
    settings.require("is_decoder", False, why="it would be a decoder alone")
    settings.require("share_encoder_decoder_embeddings", True, why=_APART)
    settings.require("tie_word_embeddings", True, why=_APART)
    size = settings.take_int("vocab_size", least=4)
    settings.require("decoder_vocab_size", size, None, why=_APART)
    heads = settings.take_int("encoder_attention_heads", default=16)
    hidden = settings.take_int("encoder_ffn_dim", default=4096)
    layers = settings.take_int("encoder_layers", default=12)
    settings.require("num_hidden_layers", layers, why="encoder_layers is another")
    both = "encoder and decoder must have the same"
    settings.require("decoder_attention_heads", heads, why=f"{both} number of heads, {heads}")
    settings.require("decoder_ffn_dim", hidden, why=f"{both} inner features, {hidden}")
    settings.require("num_attention_heads", heads, why="encoder_attention_heads is another")
    return {
        "vocabulary_size": size,
        "num_layers": layers,
        "num_decoder_layers": settings.take_int("decoder_layers", default=12),
        "d_model": settings.take_int("d_model", default=1024),
        "num_heads": heads,
        "hidden_dim": hidden,
        "dropout": settings.take_float("dropout", most=0.99, default=0.1),
        "attention_dropout": settings.take_float("attention_dropout", most=0.99, default=0.0),
        "hidden_dropout": settings.take_float("activation_dropout", most=0.99, default=0.0),
        "activation": settings.take_choice("activation_function", _ACTIVATIONS, default="gelu"),
        "scale_embeddings": settings.take_bool("scale_embedding", default=False),
        "max_length": settings.take_int("max_position_embeddings", least=2, default=1024),
        "output_bias": True,
    }


def _read_ids(settings: Settings, size: int) -> _Ids:
    pad = settings.take_int("pad_token_id", least=0)
    start = settings.take_int("decoder_start_token_id", least=0, most=size - 1, default=pad)
    return _Ids(pad=pad, end=settings.take_int("eos_token_id", least=0), start=start)


def _read_generation(
    settings: Settings, ids: _Ids, unknown: int | None, longest: int
) -> dict[str, Any]:
    """Returns the settings of `DecodingConfig` that `generate` has by default.

    Hugging Face counts the start token in `max_length`; its limit does not depend on the source.
    """
    settings.ignore("_from_model_config", "num_return_sequences", "output_scores", "tf_legacy_loss")
    settings.ignore("return_dict_in_generate", "remove_invalid_values", "bos_token_id")
    settings.ignore("temperature", "top_k", "top_p", "typical_p")  # Of sampling alone.
    settings.ignore("renormalize_logits")  # Its search differs by the probability of padding.
    settings.require("do_sample", False, None, why="its texts would be drawn, not searched")
    for name, neutral in (("num_beam_groups", 1), ("diversity_penalty", 0.0)):
        settings.require(name, neutral, None, why="its beam would be in groups")
    settings.require("encoder_no_repeat_ngram_size", 0, None, why="that rule is unknown here")
    why = "its texts would begin with a given token"
    settings.require("forced_bos_token_id", None, why=why)
    for name in ("begin_suppress_tokens", "exponential_decay_length_penalty"):
        settings.require(name, None, why="that rule is unknown here")
    why = "only the padding and the unknown token can be kept out of its texts"
    suppressed = settings.take_list("bad_words_ids", default=[])
    if suppressed not in ([], [[ids.pad]]):
        settings.require("bad_words_ids", [[ids.pad], [unknown]], why=why)
    settings.require("suppress_tokens", [ids.pad], None, why=why)
    why = "its texts would end with another token"
    settings.require("forced_eos_token_id", ids.end, None, why=why)
    settings.require("eos_token_id", ids.end, None, why=why)
    settings.require("pad_token_id", ids.pad, None, why="its padding would be another")
    settings.require("decoder_start_token_id", ids.start, None, why="its start would be another")
    decoding: dict[str, Any] = {
        "beam_size": settings.take_int("num_beams", default=1),
        "length_penalty": settings.take_float("length_penalty", default=1.0),
        "min_length": max(settings.take_int("min_length", least=0, default=0), 1),
        "repetition_penalty": settings.take_float("repetition_penalty", least=0.01, default=1.0),
        "no_repeat_ngram_size": settings.take_int("no_repeat_ngram_size", least=0, default=0),
        "score_forced_end": False,
        "early_stopping": settings.take_bool("early_stopping", default=False),
        "suppress_unknown": [unknown] in suppressed,
    }
    if "max_length" in settings:
        limit = min(settings.take_int("max_length", least=2) - 1, longest)
        decoding |= {"max_target_length": limit, "max_length_offset": limit}
    settings.finish()
    return decoding


def _check_copies(folder: PublishedFolder, problems: Problems, options: dict[str, Any]) -> None:
    """Checks that an old file's copies of the table are copies, and its positions sinusoids."""
    tensors = folder.tensors
    check_copies(tensors, dict.fromkeys(_COPIES, _TABLE), _APART, problems)
    for name in tensors.names:
        shape = (options["max_length"], options["d_model"])
        if not re.fullmatch(_POSITIONS, name):
            continue
        check_shape(tensors, name, shape, problems)
        if tensors.shape(name) == shape:
            # The decoder's first is added to the start alone; see `_start_offset`.
            rest = slice(int(name == _DECODER_POSITIONS), None)
            expected = sinusoidal_positions(*shape)[rest]
            if not np.allclose(tensors.read(name)[rest], expected, atol=_ROUNDING):
                problems.add(f"its tensor {name} does not hold sinusoids")


def _start_offset(tensors: TensorReader, options: dict[str, Any]) -> np.ndarray:
    """Returns what the decoder's first position adds to the start's row: floats `[D]`.

    `export_huggingface` writes the vector of the start there.
    """
    width = options["d_model"]
    if _DECODER_POSITIONS not in tensors:
        return np.zeros(width, np.float32)
    offset = tensors.read(_DECODER_POSITIONS)[0] - sinusoidal_positions(1, width)[0]
    return offset / (width**0.5 if options["scale_embeddings"] else 1.0)


def _table(options: dict[str, Any], rows: np.ndarray, offset: np.ndarray) -> Iterator[Weight]:
    """Yields the weights; `rows` are their rows in our order, `offset` is added to the start's."""

    def renumbered(table: np.ndarray) -> np.ndarray:
        ours = table[rows]
        ours[START_ID] += offset
        return ours

    def with_bias(bias: np.ndarray) -> np.ndarray:
        ours = bias[0, rows]
        ours[START_ID] = _START_BIAS
        return ours

    yield Weight("source_embedding.embeddings", (_TABLE,), renumbered)
    yield Weight("output_bias_weight", (_BIAS,), with_bias)
    for i in range(options["num_layers"]):
        yield from _block(f"encoder.blocks.{i}", f"model.encoder.layers.{i}")
    for i in range(options["num_decoder_layers"]):
        ours, theirs = f"decoder.blocks.{i}", f"model.decoder.layers.{i}"
        yield from _block(ours, theirs)
        attention = f"{ours}.cross_attention"
        yield from _dense(f"{attention}.query_projection", f"{theirs}.encoder_attn", "q_proj")
        yield from _dense(
            f"{attention}.memory_projection", f"{theirs}.encoder_attn", "k_proj", "v_proj"
        )
        yield from _dense(f"{attention}.output_projection", f"{theirs}.encoder_attn", "out_proj")
        yield from _norm(f"{ours}.cross_attention_norm", f"{theirs}.encoder_attn_layer_norm")


def _block(ours: str, theirs: str) -> Iterator[Weight]:
    """Yields the weights that a block of the encoder and one of the decoder have in common."""
    attention = f"{ours}.self_attention"
    yield from _dense(
        f"{attention}.input_projection", f"{theirs}.self_attn", "q_proj", "k_proj", "v_proj"
    )
    yield from _dense(f"{attention}.output_projection", f"{theirs}.self_attn", "out_proj")
    yield from _norm(f"{attention}_norm", f"{theirs}.self_attn_layer_norm")
    yield from _dense(f"{ours}.feed_forward.hidden_projection", theirs, "fc1")
    yield from _dense(f"{ours}.feed_forward.output_projection", theirs, "fc2")
    yield from _norm(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm")


def _dense(ours: str, prefix: str, *names: str) -> Iterator[Weight]:
    kernels = tuple(f"{prefix}.{name}.weight" for name in names)
    biases = tuple(f"{prefix}.{name}.bias" for name in names)
    yield Weight(f"{ours}.kernel", kernels, joined_transposed)
    yield Weight(f"{ours}.bias", biases, joined)


def _norm(ours: str, theirs: str) -> Iterator[Weight]:
    yield Weight(f"{ours}.gamma", (f"{theirs}.weight",))
    yield Weight(f"{ours}.beta", (f"{theirs}.bias",))


def _notes(source: Tokenizer, target: Tokenizer, vocabulary: Vocabulary) -> Iterator[str]:
    if vocabulary.languages:
        first = vocabulary.languages[0]
        yield (
            f"The model translates into {len(vocabulary.languages)} languages "
            f"({', '.join(vocabulary.languages)}): begin each text with a token such as "
            f">>{first}<<, or export with --target-language {first}."
        )
    obstacle = source.lite_obstacle or target.lite_obstacle
    if obstacle:
        yield (
            f"A .tflite of this model cannot take texts, because of its tokenizer: {obstacle}. "
            "Export it with --signatures ids encode decode_step, or as a SavedModel, which takes "
            "texts."
        )
