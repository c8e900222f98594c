"""Pruning a run: its vocabulary and the tables of ids are cut to the pieces of a corpus."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.layers import PositionalEmbedding
from ktransformer.models import Transformer
from ktransformer.saving.run import Run
from ktransformer.text import Tokenizer
from ktransformer.text.piece_model import essential_pieces, select_pieces

_LINES = 10_000  # Encoded at once.


def prune_run(run: Run, texts: Iterable[str], *, min_count: int = 1) -> Run:
    """Cuts a run's vocabulary to the pieces that a corpus uses.

    The remaining weights, and so the logits of the remaining pieces, do not change. With
    `min_count=1` the corpus is encoded into the same pieces as before. Other texts are encoded into
    shorter pieces, down to single characters; the model has seldom seen words written so, and
    translates them worse.

    Args:
        run: A trained run; it is not changed.
        texts: The corpus, of both sides: pieces that only translations use must be in it too.
        min_count: Keeps the pieces that the corpus uses at least so often.

    Returns:
        The smaller run. Its `config.data.vocabulary_size` is the new number of pieces.

    Raises:
        InputError: The corpus has no token, `min_count` is below 1, the run has two vocabularies, a
            tokenizer is not a unigram model, or the tables of ids are not in the layers of a
            `Transformer`.

    Example:
        ```python
        small = prune_run(load_run("runs/news"), read_lines(["sport.en", "sport.de"]))
        save_run(small, "runs/sport")
        ```
    """
    if min_count < 1:
        raise InputError(f"min_count must be at least 1; got min_count={min_count}.")
    if not run.config.data.shared_vocabulary:
        raise InputError("Only a run with one vocabulary can be pruned; this one has two.")
    tokenizers = [run.tokenizer] + ([run.target_tokenizer] if run.target_tokenizer else [])
    size = run.tokenizer.vocabulary_size
    remaining, of_each = iter(texts), np.zeros((len(tokenizers), size), np.int64)
    while lines := list(itertools.islice(remaining, _LINES)):
        of_each += [count_pieces(tokenizer, lines) for tokenizer in tokenizers]
    counts = of_each.max(axis=0)
    essential = [essential_pieces(tokenizer.model) for tokenizer in tokenizers]
    if not counts.any():
        raise InputError("The corpus to prune to is empty.")
    kept = np.union1d(np.flatnonzero(counts >= min_count), np.concatenate(essential))
    kept, beyond = kept[kept < size], [[i for i in ids if i >= size] for ids in essential]
    pruned = [
        Tokenizer(select_pieces(tokenizer.model, [*kept.tolist(), *others]))
        for tokenizer, others in zip(tokenizers, beyond, strict=True)
    ]
    return Run(
        config=run.config.replace({"vocabulary_size": len(kept)}),
        tokenizer=pruned[0],
        model=prune_model(run.model, kept),
        history=run.history,
        target_tokenizer=pruned[1] if len(pruned) > 1 else None,
    )


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """Counts the uses of each piece, int64 `[V]`; each text has an end token."""
    counts, remaining = np.zeros(tokenizer.vocabulary_size, np.int64), iter(texts)
    while lines := list(itertools.islice(remaining, _LINES)):
        for ids in tokenizer.encode_lines(lines):
            counts += np.bincount(ids, minlength=len(counts))
    return counts


def prune_model(model: Transformer, kept: np.ndarray) -> Transformer:
    """Makes a model with a part of the vocabulary and the same weights.

    Args:
        model: A built `Transformer`, or a subclass that `get_config` recreates; not changed.
        kept: Int array, the ids to keep, ascending, with the padding; the new model's id i is
            `kept[i]`.

    Raises:
        InputError: The tables of ids are not in the layers of a `Transformer`, or the source has a
            vocabulary of its own.
    """
    pad_id = int(np.searchsorted(kept, model.get_config().get("pad_id", 0)))
    return change_vocabulary(
        model, len(kept), lambda table, axis: np.take(table, kept, axis=axis), pad_id=pad_id
    )


def change_vocabulary(
    model: Transformer,
    size: int,
    change: Callable[[np.ndarray, int], np.ndarray],
    *,
    pad_id: int | None = None,
) -> Transformer:
    """Makes a model with another vocabulary and the same weights elsewhere.

    Args:
        model: A built `Transformer`, or a subclass that `get_config` recreates; not changed.
        size: The number of ids of the new model.
        change: Takes a table and its axis of ids, and returns the new model's table.
        pad_id: The padding of the new model; None for the same.

    Raises:
        InputError: The tables of ids are not in the layers of a `Transformer`, or the source has a
            vocabulary of its own.
    """
    if model.source_vocabulary_size is not None:
        raise InputError(
            "Only the vocabulary of a model with one can be changed; got "
            f"source_vocabulary_size={model.source_vocabulary_size}."
        )
    tables = _vocabulary_axes(model)
    try:
        config = {**model.get_config(), "vocabulary_size": size}
        if "pad_id" in config and pad_id is not None:
            config["pad_id"] = pad_id
        changed = type(model).from_config(config)
        changed.build()
    except (TypeError, ValueError) as error:
        raise InputError(
            f"No {type(model).__name__} of {size} pieces can be made: {error}"
        ) from error
    if len(model.weights) != len(changed.weights):
        raise InputError(
            f"A {type(model).__name__} made from its own configuration has "
            f"{len(changed.weights)} weights, not {len(model.weights)}: its vocabulary cannot be "
            "changed."
        )
    for old, new in zip(model.weights, changed.weights, strict=True):
        values = keras.ops.convert_to_numpy(old)
        if id(old) in tables:
            values = change(values, tables[id(old)])
        if values.shape != tuple(new.shape):
            raise InputError(
                f"The weight {old.path} of shape {tuple(old.shape)} depends on the vocabulary in "
                "a way that is not known here: the vocabulary cannot be changed."
            )
        new.assign(values)
    return changed


def _vocabulary_axes(model: Transformer) -> dict[int, int]:
    """Returns the axis of ids of each weight that has one, by the weight's `id`."""
    axes = {id(model.output_bias_weight): 0} if model.output_bias else {}
    for name in ("source_embedding", "target_embedding", "output_embedding"):
        layer: Any = getattr(model, name)
        if isinstance(layer, PositionalEmbedding):
            axes[id(layer.embeddings)] = 0
        elif name == "output_embedding" and isinstance(layer, keras.layers.Dense):
            axes[id(layer.kernel)] = 1
            if layer.use_bias:
                axes[id(layer.bias)] = 0
        else:
            raise InputError(
                f"{name} is a {type(layer).__name__}, not a PositionalEmbedding: the model's "
                "vocabulary cannot be changed."
            )
    return axes
