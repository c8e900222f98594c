"""Extends a run: words become pieces of its vocabulary, to be fine-tuned."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.pruning import change_vocabulary
from ktransformer.saving.run import Run
from ktransformer.text import Tokenizer
from ktransformer.text.copied_spans import SYMBOLS
from ktransformer.text.piece_model import add_symbols, add_words, find_symbols, lite_obstacle


def extend_vocabulary(run: Run, words: Sequence[str]) -> Run:
    """Adds words to a run's vocabulary, each as one piece.

    The row of a new piece, in every table of ids, is the mean of the rows of the pieces that the
    word had before. All other ids and weights stay as they are; a text without these words is
    encoded as before. Translate with the run only after a training on text with the words.

    Args:
        run: A trained run; it is not changed.
        words: Words that are no pieces yet, each once.

    Returns:
        The larger run, to train on from: `FromRun(run)`.

    Raises:
        InputError: There is no word; one is empty, holds a space, is a piece already or is given
            twice; the run has two tokenizers, or its tokenizer is not a unigram model with the
            default normalisation; or the tables of ids are not in the layers of a `Transformer`.

    Example:
        ```python
        run = extend_vocabulary(load_run("runs/news"), ["skateboarder", "Skateboarder"])
        tuned = train(
            FromRun(run).default_config(), text, checkpoints="checkpoints", start=FromRun(run)
        )
        ```
    """
    _check_tokenizers(run)
    if not words:
        raise InputError("There is no word to add.")
    model, replaced = add_words(run.tokenizer.model, words)

    def extend(table: np.ndarray, axis: int) -> np.ndarray:
        rows = [table.take(ids, axis=axis).mean(axis=axis) for ids in replaced]
        return np.concatenate([table, np.stack(rows, axis=axis)], axis=axis)

    return _with_tokenizer(run, Tokenizer(model), extend)


def extend_with_copy_symbols(run: Run) -> Run:
    """Adds the symbols `<c0>` to `<c9>`, which stand for spans to copy, to a run's vocabulary.

    Their rows in the tables of ids are drawn from a normal distribution with the mean and the
    deviation of the others, by a fixed seed. Train on from the run with a `copy_share`.

    Args:
        run: A trained run; it is not changed.

    Raises:
        InputError: The tokenizer has symbols or is not a unigram model with the default
            normalisation; or see `extend_vocabulary`.
    """
    _check_tokenizers(run)
    model = run.tokenizer.model
    if find_symbols(model) or lite_obstacle(model) is not None:
        reason = lite_obstacle(model) or "it has symbols"
        raise InputError(f"Symbols cannot be added to the tokenizer: {reason}.")

    def extend(table: np.ndarray, axis: int) -> np.ndarray:
        random = np.random.default_rng(0)
        mean, deviation = (f(table, axis=axis, keepdims=True) for f in (np.mean, np.std))
        shape = [*table.shape]
        shape[axis] = 2 * len(SYMBOLS)
        rows = (mean + deviation * random.standard_normal(shape)).astype(table.dtype)
        return np.concatenate([table, rows], axis=axis)

    return _with_tokenizer(run, Tokenizer(add_symbols(model, SYMBOLS)), extend)


def _check_tokenizers(run: Run) -> None:
    if run.target_tokenizer is not None:
        raise InputError("Only a run with one tokenizer can be extended; this one has two.")


def _with_tokenizer(
    run: Run, tokenizer: Tokenizer, extend: Callable[[np.ndarray, int], np.ndarray]
) -> Run:
    size = tokenizer.vocabulary_size
    return dataclasses.replace(
        run,
        config=run.config.replace({"vocabulary_size": size}),
        tokenizer=tokenizer,
        model=change_vocabulary(run.model, size, extend),
        adapter=None,
    )
