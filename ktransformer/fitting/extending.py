"""Extends a run: words and symbols become pieces of its vocabulary, to be fine-tuned."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.pruning import change_vocabulary
from ktransformer.saving.run import Run
from ktransformer.text import Tokenizer
from ktransformer.text.added_pieces import add_pieces


def extend_vocabulary(
    run: Run,
    words: Sequence[str] = (),
    *,
    symbols: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> Run:
    """Adds words and symbols to a run's vocabulary, each as one piece.

    The row of a new piece, in every table of ids, is the mean of the rows of the pieces that the
    word or symbol had before. All other ids and weights stay as they are, but the ids of symbols
    come after those of new words; a text without these words and symbols is encoded as before.
    Translate with the run only after a training on text with them.

    Args:
        run: A trained run; it is not changed.
        words: Words that are no pieces yet, each once.
        symbols: New symbols that a translation may contain; see `Tokenizer.train`.
        tags: New symbols that only sources contain.

    Returns:
        The larger run, to train on from: `FromRun(run)`.

    Raises:
        InputError: There is no word or symbol; one is empty, holds a space, is a piece already or
            is given twice; the run has two tokenizers, or its tokenizer is not a unigram model with
            the default normalisation; or the tables of ids are not in the layers of a
            `Transformer`.

    Example:
        ```python
        run = extend_vocabulary(load_run("runs/news"), ["skateboarder", "Skateboarder"])
        tuned = train(
            FromRun(run).default_config(), text, checkpoints="checkpoints", start=FromRun(run)
        )
        ```
    """
    if run.target_tokenizer is not None:
        raise InputError("Only a run with one tokenizer can be extended; this one has two.")
    if not (words or symbols or tags):
        raise InputError("There is no word and no symbol to add.")
    extension = add_pieces(run.tokenizer.model, words=words, symbols=symbols, tags=tags)
    tokenizer = Tokenizer(extension.model)
    kept = run.tokenizer.vocabulary_size - 2 * run.tokenizer.symbol_count

    def extend(table: np.ndarray, axis: int) -> np.ndarray:
        rows = [table.take(ids, axis=axis).mean(axis=axis) for ids in extension.origins[kept:]]
        old = table.take(np.arange(kept), axis=axis)
        return np.concatenate([old, np.stack(rows, axis=axis)], axis=axis)

    size, data = tokenizer.vocabulary_size, run.config.data
    changes = {
        "vocabulary_size": size,
        "symbols": [*data.symbols, *symbols],
        "tags": [*data.tags, *tags],
    }
    return dataclasses.replace(
        run,
        config=run.config.replace(changes),
        tokenizer=tokenizer,
        model=change_vocabulary(run.model, size, extend),
        adapter=None,
    )
