"""Writes a translator as a folder of Hugging Face transformers: a MarianMTModel, its tokenizer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from ktransformer.conversion.dropped_rules import without_loop_rule
from ktransformer.conversion.importing import import_published
from ktransformer.conversion.problems import Problems
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.layers.positions import sinusoidal_positions
from ktransformer.models import Transformer
from ktransformer.saving.weights import check_weights
from ktransformer.tasks import Task, Translator, with_article
from ktransformer.tasks.task import check_task
from ktransformer.tasks.written_texts import probe_ids
from ktransformer.text.piece_model import find_unlisted

_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "source.spm",
    "target.spm",
    "tokenizer_config.json",
    "vocab.json",
)
KIND = FolderKind(
    "a Marian folder", tuple(name.replace(".", r"\.") for name in _FILES), required=_FILES
)
_ACTIVATIONS = {
    keras.activations.gelu: "gelu",
    keras.activations.relu: "relu",
    keras.activations.silu: "silu",
    keras.activations.tanh: "tanh",
}
# What every Marian model is.
_FORM = {
    "norm_first": False,
    "norm": "layer",
    "feed_forward": "plain",
    "positions": "sinusoidal",
    "tie_embeddings": True,
    "source_vocabulary_size": None,
    "use_bias": True,
    "epsilon": 1e-5,
}
# Settings of a search that `generate` lacks, or under which it ranks otherwise.
_SETTINGS = {"repetition_penalty": 1.0, "coverage_penalty": 0.0}
_TOLERANCE = 1e-4  # Of logits, as a share of the greatest.


def export_huggingface(
    task: Task, path: str | Path, *, overwrite: bool = False, **labels: str
) -> Path:
    """Writes a translator as a Marian folder, which `MarianMTModel.from_pretrained` loads.

    The folder is imported again and compared with the model before it takes its name. As in other
    Marian folders the end has id 0, unknown 1, and the padding, from which decoding starts there,
    the last one.

    Args:
        task: A `Translator`.
        path: The folder to write.
        overwrite: Whether such a folder that is already there may be replaced.
        **labels: `source_label` and `target_label`, the languages of the tokenizer.

    Returns:
        The folder.

    Raises:
        TypeError: `task` is no `Task`.
        InputError: `path` may not be written, the model is not of Marian's form (everything that
            is not is named), or it holds weights that are infinite or NaN.

    Example:
        ```python
        export_huggingface(ktransformer.load("runs/multi30k"), "multi30k.hf")
        ```
    """
    check_task(task)
    path = Path(path)
    check_new_folder(path, overwrite=overwrite, kind=KIND)
    if not isinstance(task, Translator):
        raise InputError(
            f"Only a translator is written for Hugging Face; this is {with_article(task.kind)}."
        )
    task = without_loop_rule(task, "Hugging Face")
    problems = Problems()
    _find_obstacles(task, problems)
    problems.raise_if_any("This translator", "be a Marian model")
    check_weights(task.model)
    vocabulary = _vocabulary(task)
    ids = {"pad_token_id": len(vocabulary) - 1, "bos_token_id": 0, "eos_token_id": 0}
    ids["decoder_start_token_id"] = ids["pad_token_id"]
    files = {
        "config.json": _config(task, ids),
        "generation_config.json": _generation_config(task, ids),
        "tokenizer_config.json": _tokenizer_config(task, **labels),
        "vocab.json": {text: number for number, text in enumerate(vocabulary)},
    }
    with new_folder(path, overwrite=overwrite, kind=KIND) as folder:
        for name, content in files.items():
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (folder / name).write_text(f"{text}\n", encoding="utf-8")
        task.tokenizer.save(folder / "source.spm")
        task.target_tokenizer.save(folder / "target.spm")
        tensors = {name: np.ascontiguousarray(array) for name, array in _tensors(task)}
        (folder / "model.safetensors").write_bytes(
            safetensors.numpy.save(tensors, {"format": "pt"})
        )
        _check(folder, task)
    return path


def _check(folder: Path, translator: Translator) -> None:
    """Imports the folder, and compares the logits of some texts with the model's."""
    task: Any = import_published(folder).task
    special, theirs = translator.target_tokenizer.special_ids, task.target_tokenizer.special_ids
    mapped = np.zeros(translator.model.vocabulary_size, np.int32)
    order = _order(translator)[1:-1]
    # Imported, the other pieces follow the special ones in the order of the folder.
    mapped[order] = [theirs.unknown, *task.target_tokenizer.ordinary_ids]
    for name in ("pad", "start", "end"):
        mapped[getattr(special, name)] = getattr(theirs, name)
    limit = min(translator.max_source_length, translator.max_target_length)
    source = probe_ids(translator.tokenizer, [min(n, limit - 1) for n in (3, 11, 24)], limit)
    target = np.where(source == special.end, special.pad, source)
    target = np.concatenate([np.full((3, 1), special.start), target[:, :-1]], axis=1)
    pair = {"source": source.numpy(), "target": target.astype(np.int32)}
    expected = translator.model(pair, training=False).numpy()
    found = task.model({key: mapped[ids] for key, ids in pair.items()}, training=False).numpy()
    chosen = [special.end, *order]
    gap = np.abs(expected[..., chosen] - found[..., mapped[chosen]])[target != special.pad]
    if not gap.max() <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise InputError("The converted model gives other logits than the model.")


def _find_obstacles(translator: Translator, problems: Problems) -> None:
    """Records where a translator is not of Marian's form."""
    model = translator.model
    if type(model) is not Transformer:
        problems.add(f"its model is a {type(model).__name__}, which may compute otherwise")
    for name, wanted in _FORM.items():
        if getattr(model, name) != wanted:
            problems.add(f"{name} must be {wanted}; got {getattr(model, name)}")
    if model.num_kv_heads not in (None, model.num_heads):
        problems.add(f"num_kv_heads must be num_heads, {model.num_heads}; got {model.num_kv_heads}")
    if keras.activations.get(model.activation) not in _ACTIVATIONS:
        names = ", ".join(_ACTIVATIONS.values())
        problems.add(f"activation must be one of {names}; got {model.activation!r}")
    if translator.shortlist is not None:
        problems.add("a shortlist has no counterpart there")
    if translator.rules:
        problems.add(f"rules must be empty; got {translator.rules[0]!r}")
    for name, off in _SETTINGS.items():
        value = getattr(translator.decoding, name)
        if value != off:
            problems.add(f"{name} must be {off}, for generate ranks otherwise; got {value}")
    for name in ("tag", "target_language"):
        if getattr(translator.decoding, name) is not None:
            problems.add(f"{name} must be null, for there the texts begin with its token")
    if any(find_unlisted(each.model) is not None for each in translator.tokenizers):
        problems.add("its tokenizers, of a Marian folder, are not written back as they were")
    if any(each.symbols for each in translator.tokenizers):
        problems.add("its tokenizer has symbols, which MarianTokenizer would break")
    every = range(model.vocabulary_size)
    if translator.tokenizer.pieces(every) != translator.target_tokenizer.pieces(every):
        problems.add("its two tokenizers must have the same piece of each id")


def _order(translator: Translator) -> np.ndarray:
    """Returns our id of each of theirs, where the start stands for their padding."""
    special = translator.target_tokenizer.special_ids
    ordinary = translator.target_tokenizer.ordinary_ids
    return np.concatenate([[special.end, special.unknown], ordinary, [special.start]])


def _vocabulary(translator: Translator) -> list[str]:
    """Returns their pieces, by id; `MarianTokenizer` knows the special ones by these names."""
    pieces = translator.target_tokenizer.pieces(translator.target_tokenizer.ordinary_ids)
    return ["</s>", "<unk>", *pieces, "<pad>"]


def _config(translator: Translator, ids: dict[str, int]) -> dict[str, Any]:
    model = translator.model
    layers = {"encoder": model.num_layers, "decoder": model.num_decoder_layers}
    sides: dict[str, int] = {}
    for side, number in layers.items():
        sides |= {
            f"{side}_layers": number,
            f"{side}_attention_heads": model.num_heads,
            f"{side}_ffn_dim": model.hidden_dim,
        }
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "vocab_size": model.vocabulary_size - 1,
        "decoder_vocab_size": model.vocabulary_size - 1,
        "d_model": model.d_model,
        "num_hidden_layers": model.num_layers,
        **sides,
        "activation_function": _ACTIVATIONS[keras.activations.get(model.activation)],
        "dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.hidden_dropout,
        "max_position_embeddings": model.max_length,
        "scale_embedding": bool(model.scale_embeddings),
        "static_position_embeddings": True,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "is_encoder_decoder": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        **ids,
        "dtype": "float32",
    }


def _generation_config(translator: Translator, ids: dict[str, int]) -> dict[str, Any]:
    """Returns the settings of `generate`; the limit of a text does not depend on its source."""
    decoding = translator.decoding
    unknown = [[1]] if decoding.suppress_unknown else []
    return {
        **ids,
        "early_stopping": decoding.early_stopping,
        "num_beams": decoding.beam_size,
        "length_penalty": decoding.length_penalty,
        "min_length": decoding.min_length,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "max_length": translator.max_target_length + 1,  # The start token included.
        "forced_eos_token_id": ids["eos_token_id"],
        "bad_words_ids": [[ids["pad_token_id"]], *unknown],
    }


def _tokenizer_config(
    translator: Translator, source_label: str = "", target_label: str = ""
) -> dict[str, Any]:
    return {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": source_label,
        "target_lang": target_label,
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "model_max_length": translator.max_source_length,
        "separate_vocabs": False,
    }


def _tensors(translator: Translator) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors by their names in Marian.

    The vector of the start, which is their padding, is 0 there, and other converters take it for
    granted: ours is added to the first position of the decoder, where nothing else stands.
    """
    model, order = translator.model, _order(translator)
    table = _array(model.source_embedding.embeddings)[order]
    start = table[-1] * (model.d_model**0.5 if model.scale_embeddings else 1)
    table[-1] = 0
    yield "model.shared.weight", table
    if start.any():
        positions = sinusoidal_positions(model.max_length, model.d_model)
        positions[0] += start
        yield "model.decoder.embed_positions.weight", positions
    bias = np.zeros(model.vocabulary_size, np.float32)
    if model.output_bias:
        bias = _array(model.output_bias_weight)
    padding = translator.target_tokenizer.special_ids.pad
    yield "final_logits_bias", bias[[*order[:-1], padding]][None]
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, block in enumerate(stack.blocks):
            yield from _block(f"model.{side}.layers.{i}", block)


def _block(name: str, block: Any) -> Iterator[tuple[str, np.ndarray]]:
    attention = block.self_attention
    yield from _dense(
        attention.input_projection, *(f"{name}.self_attn.{part}_proj" for part in "qkv")
    )
    yield from _dense(attention.output_projection, f"{name}.self_attn.out_proj")
    yield from _norm(block.self_attention_norm, f"{name}.self_attn_layer_norm")
    if hasattr(block, "cross_attention"):
        attention, theirs = block.cross_attention, f"{name}.encoder_attn"
        yield from _dense(attention.query_projection, f"{theirs}.q_proj")
        yield from _dense(attention.memory_projection, f"{theirs}.k_proj", f"{theirs}.v_proj")
        yield from _dense(attention.output_projection, f"{theirs}.out_proj")
        yield from _norm(block.cross_attention_norm, f"{theirs}_layer_norm")
    yield from _dense(block.feed_forward.hidden_projection, f"{name}.fc1")
    yield from _dense(block.feed_forward.output_projection, f"{name}.fc2")
    yield from _norm(block.feed_forward_norm, f"{name}.final_layer_norm")


def _dense(dense: Any, *names: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the parts of a projection, which may be fused: `[in, out]` to `[out, in]` each."""
    kernels = np.split(_array(dense.kernel).T, len(names))
    biases = np.split(_array(dense.bias), len(names))
    for name, kernel, bias in zip(names, kernels, biases, strict=True):
        yield f"{name}.weight", kernel
        yield f"{name}.bias", bias


def _norm(norm: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name}.weight", _array(norm.gamma)
    yield f"{name}.bias", _array(norm.beta)


def _array(values: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(values).astype(np.float32)
