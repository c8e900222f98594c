"""Llama: a causal language model of texts, where its tokenizer is SentencePiece's, or of ids."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ktransformer.conversion.causal import AddedIds, check_tied, norm, read_end, read_generation
from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.importing import Imported
from ktransformer.conversion.llama_tokenizer import TOKENIZER, read_tokenizer
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.registry import register_family
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.weight_table import (
    Weight,
    check_layers,
    check_shape,
    joined,
    joined_transposed,
    load_weights,
)
from ktransformer.errors import brief
from ktransformer.layers.positions import Rotary
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks import IdGenerator, TextGenerator
from ktransformer.text import SpecialIds

_GATES = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu"}
_UNUSED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"model\.rotary_emb\.inv_freq")


@register_family("llama")
def convert(folder: PublishedFolder, problems: Problems) -> Imported:
    """Converts a LlamaForCausalLM.

    With a SentencePiece `tokenizer.model` it takes texts, and padding is added behind its ids;
    without one it takes ids, and padding, an unknown and a start token are added.
    """
    settings = Settings(folder.config, problems)
    size = settings.take_int("vocab_size", least=3, default=32000)
    options = _read_options(settings, folder.config, problems)
    biases = {
        name: settings.take_bool(f"{name}_bias", default=False) for name in ("attention", "mlp")
    }
    options["use_bias"] = any(biases.values())
    end = read_end(settings, folder.config, problems)
    start = settings.take_int("bos_token_id", least=0, default=end)
    settings.ignore("pad_token_id")
    tied = settings.take_bool("tie_word_embeddings", default=False)
    settings.finish()
    if max(start, end) >= size:
        problems.add(f"bos_token_id={start} and eos_token_id={end} must be below vocab_size={size}")
    decoding = read_generation(folder.generation_config, end, options["max_length"], problems)
    _check_sizes(folder, size, options, problems)
    if tied:
        check_tied(folder.tensors, "model.embed_tokens.weight", problems)
    problems.raise_if_any(folder.path)  # The tokenizer gets a piece for each row of the table.
    tokenizer = read_tokenizer(folder, size, start, end, problems)
    problems.raise_if_any(folder.path)
    added = AddedIds.behind(size, start, end)
    if tokenizer is not None:
        added = AddedIds(tokenizer.special_ids, 1, start)
    model = CausalLanguageModel(
        size + added.num_added, pad_id=added.special.pad, tie_embeddings=tied, **options
    )
    model.build()
    unused = (*_UNUSED, r"lm_head\.weight") if tied else _UNUSED
    load_weights(
        model, _table(options, biases, tied, added), folder.tensors, problems, unused=unused
    )
    problems.raise_if_any(folder.path)
    if tokenizer is None:
        return Imported(IdGenerator(model, added.special, decoding), notes=(_note(added.special),))
    note = (
        f"A .tflite of this model takes ids, not texts: {tokenizer.lite_obstacle}."
        if tokenizer.lite_obstacle
        else ""
    )
    return Imported(TextGenerator(model, tokenizer, decoding), notes=(note,) if note else ())


def _read_options(settings: Settings, values: dict[str, Any], problems: Problems) -> dict[str, Any]:
    """Returns the arguments of a `CausalLanguageModel`, but for `use_bias`."""
    settings.ignore("pretraining_tp", "max_sequence_length")
    d_model = settings.take_int("hidden_size", default=4096)
    heads = settings.take_int("num_attention_heads", default=32)
    key_heads = settings.take_int("num_key_value_heads", default=heads)
    options = {
        "num_layers": settings.take_int("num_hidden_layers", default=32),
        "d_model": d_model,
        "num_heads": heads,
        "num_kv_heads": key_heads,
        "hidden_dim": settings.take_int("intermediate_size", default=11008),
        "max_length": settings.take_int("max_position_embeddings", least=2, default=2048),
        "feed_forward": settings.take_choice("hidden_act", _GATES, default="silu"),
        "epsilon": settings.take_float("rms_norm_eps", most=1.0, default=1e-6),
        "attention_dropout": settings.take_float("attention_dropout", most=0.999, default=0.0),
        "dropout": 0.0,
        "norm": "rms",
        "positions": Rotary(base=_read_base(settings, values, problems)),
        "output_bias": True,
    }
    if d_model % heads or heads % key_heads:
        problems.add(
            f"hidden_size={d_model}, num_attention_heads={heads} and "
            f"num_key_value_heads={key_heads} must each divide the one before"
        )
    elif (d_model // heads) % 2:
        problems.add(f"hidden_size={d_model} makes heads of an odd size, which cannot be rotated")
    why = f"a head has hidden_size / num_attention_heads = {d_model // heads} features here"
    settings.require("head_dim", d_model // heads, None, why=why)
    return options


def _read_base(settings: Settings, values: dict[str, Any], problems: Problems) -> float:
    """Returns the base of the rotary angles, of today's form of config.json or of older ones."""
    settings.ignore("rope_parameters", "rope_scaling")
    base = settings.take_float("rope_theta", least=1.0, default=10000.0)
    for name in ("rope_parameters", "rope_scaling"):
        given = values.get(name) or {}
        if not isinstance(given, dict):
            problems.add(f"config.json has {name}={brief(given)}, which must be an object")
            continue
        inner = Settings(given, problems, name)
        base = inner.take_float("rope_theta", least=1.0, default=base)
        for key in ("rope_type", "type"):
            inner.require(key, "default", why="angles that are scaled are unknown here")
        inner.finish()
    return base


def _check_sizes(
    folder: PublishedFolder, size: int, options: dict[str, Any], problems: Problems
) -> None:
    """Compares the sizes with the tensors' headers before any of them is used."""
    tensors, d_model = folder.tensors, options["d_model"]
    check_layers(tensors, "model.layers.", options["num_layers"], "num_hidden_layers", problems)
    check_shape(tensors, "model.embed_tokens.weight", (size, d_model), problems)
    inner = (options["hidden_dim"], d_model)
    check_shape(tensors, "model.layers.0.mlp.gate_proj.weight", inner, problems)
    keys = (d_model // options["num_heads"] * options["num_kv_heads"], d_model)
    check_shape(tensors, "model.layers.0.self_attn.k_proj.weight", keys, problems)


def _table(
    options: dict[str, Any], biases: dict[str, bool], tied: bool, added: AddedIds
) -> Iterator[Weight]:
    table = ("model.embed_tokens.weight",)
    yield Weight("target_embedding.embeddings", table, added.table)
    yield Weight("output_bias_weight", table, added.bias)
    if not tied:
        yield Weight("output_embedding.kernel", ("lm_head.weight",), added.kernel)
    for i in range(options["num_layers"]):
        ours, theirs = f"decoder.blocks.{i}", f"model.layers.{i}"
        for layer, part, *names in (
            ("self_attention.input_projection", "self_attn", "q_proj", "k_proj", "v_proj"),
            ("self_attention.output_projection", "self_attn", "o_proj"),
            ("feed_forward.gate_projection", "mlp", "gate_proj"),
            ("feed_forward.hidden_projection", "mlp", "up_proj"),
            ("feed_forward.output_projection", "mlp", "down_proj"),
        ):
            kernels = tuple(f"{theirs}.{part}.{name}.weight" for name in names)
            yield Weight(f"{ours}.{layer}.kernel", kernels, joined_transposed)
            if biases["attention" if part == "self_attn" else "mlp"]:
                names_of_biases = tuple(f"{theirs}.{part}.{name}.bias" for name in names)
                yield Weight(f"{ours}.{layer}.bias", names_of_biases, joined)
            elif options["use_bias"]:  # One of the two parts has biases, this one has none.
                yield Weight(f"{ours}.{layer}.bias", kernels, _no_bias)
        yield from norm(f"{ours}.self_attention_norm", f"{theirs}.input_layernorm", center=False)
        after = f"{theirs}.post_attention_layernorm"
        yield from norm(f"{ours}.feed_forward_norm", after, center=False)
    yield from norm("decoder.final_norm", "model.norm", center=False)


def _no_bias(*kernels: np.ndarray) -> np.ndarray:
    return np.zeros(sum(len(kernel) for kernel in kernels))


def _note(special: SpecialIds) -> str:
    return (
        f"The model takes ids, not texts, because the folder has no {TOKENIZER} of SentencePiece; "
        f"the ids {special.pad} (padding), {special.unknown} (unknown) and {special.start} (start) "
        "are added."
    )
