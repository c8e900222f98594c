"""The translator: text in, text out, in TensorFlow graphs, and its SavedModel."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ktransformer._version import __version__
from ktransformer.config import DecodingConfig
from ktransformer.decoding import (
    Hypotheses,
    SpecialIds,
    beam_search,
    greedy_search,
    length_limits,
    sample,
)
from ktransformer.errors import InputError
from ktransformer.files import new_folder
from ktransformer.losses import smoothed_cross_entropy, token_weights
from ktransformer.models import Transformer
from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer

SPECIAL_IDS = SpecialIds(
    start=START_ID, end=END_ID, pad=PAD_ID, suppressed=(PAD_ID, START_ID, UNKNOWN_ID)
)
_TEXTS = tf.TensorSpec([None], tf.string)
_IDS = tf.TensorSpec([None, None], tf.int32)


class Translator(tf.Module):
    """Tokenizer, model and search in one: every method is a graph from text to text.

    The same methods serve the BLEU callback, the commands and the export. A text without any
    token (empty, or spaces alone) gives an empty text with a score of 0. A text of more tokens
    than the model's `max_length` is cut there; `count_tokens` tells how many it has. Keep a
    translator in a variable: a `tf.function` does not keep its object alive.

    Args:
        model: A trained `Transformer`, or a subclass of it.
        tokenizer: Its tokenizer.
        decoding: How to search. A beam size of 1 makes `translate` greedy.

    Example:
        ```python
        translator = Translator(run.model, run.tokenizer, run.config.decoding)
        translator.translate(tf.constant(["Two dogs are running."]))["text"]
        ```
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, decoding: DecodingConfig | None = None
    ) -> None:
        super().__init__(name="translator")
        self.model = model
        self.tokenizer = tokenizer
        self.decoding = decoding or DecodingConfig()

    @tf.function(input_signature=[_TEXTS])
    def translate(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]`.

        Returns:
            `text`, string `[B]`, and `score`, float32 `[B]`, log-probability /
            length ** length_penalty.
        """
        translations = self._translate_n_best(texts, n_best=1)
        return {name: values[:, 0] for name, values in translations.items()}

    @tf.function(input_signature=[_TEXTS])
    def beam(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]` into the K best hypotheses each, K being the beam size.

        Returns:
            `text`, string `[B, K]`, and `score`, float32 `[B, K]`, best first.
        """
        return self._translate_n_best(texts, n_best=self.decoding.beam_size)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "source"),
            tf.TensorSpec([None], tf.string, "target"),
        ]
    )
    def score(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores target texts `[B]` as translations of source texts `[B]`.

        Returns:
            `log_probability`, float32 `[B]`, of the target with its end token, and `tokens`,
            int32 `[B]`, how many tokens that is.
        """
        labels = self.encode(target)
        start = tf.fill([tf.shape(labels)[0], 1], START_ID)
        inputs = tf.concat([start, labels[:, :-1]], axis=1)
        logits = self.model({"source": self.encode(source), "target": inputs}, training=False)
        weights = token_weights(labels, PAD_ID)
        losses = smoothed_cross_entropy(labels, logits)
        return {
            "log_probability": -tf.reduce_sum(losses * weights, axis=1),
            "tokens": tf.cast(tf.reduce_sum(weights, axis=1), tf.int32),
        }

    @tf.function(input_signature=[_IDS])
    def ids(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates source ids `[B, S]`, ended and padded, for callers with a tokenizer.

        Ids over the model's `max_length` are cut there and ended, as texts are.

        Returns:
            `ids`, int32 `[B, T]`, ended and padded, and `score`, float32 `[B]`.
        """
        limit = self.model.max_length
        last = tf.where(source[:, limit - 1 : limit] == PAD_ID, PAD_ID, END_ID)
        best = self.search(tf.concat([source[:, : limit - 1], last], axis=1))
        return {"ids": best.ids[:, 0], "score": best.scores[:, 0]}

    @tf.function(input_signature=[_TEXTS])
    def count_tokens(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of texts `[B]`, the end token included: int32 `[B]`."""
        return tf.cast(self.tokenizer.encode(texts).row_lengths(), tf.int32)

    def sample(self, texts: tf.Tensor, seed: int = 0, **options: Any) -> dict[str, tf.Tensor]:
        """Draws a translation of each text instead of searching for the best.

        Args:
            texts: Strings `[B]`.
            seed: The same seed gives the same texts.
            **options: `temperature`, `top_k` and `top_p` of `ktransformer.decoding.sample`.

        Returns:
            `text`, string `[B]`, and `score`, float32 `[B]`.
        """
        return self._sample(tf.constant(texts), tf.constant(seed), **options)

    @tf.function
    def _sample(self, texts: tf.Tensor, seed: tf.Tensor, **options: Any) -> dict[str, tf.Tensor]:
        source = self.encode(texts)
        step, state, limits = self._prepare(source, beam_size=1)
        drawn = sample(step, state, limits, SPECIAL_IDS, seed=seed, **options)
        translations = self._to_texts(_end_empty(source, drawn))
        return {name: values[:, 0] for name, values in translations.items()}

    def encode(self, texts: tf.Tensor) -> tf.Tensor:
        """Turns texts `[B]` into ids `[B, S]`, cut to `max_length`, ended and padded."""
        tokens = self.tokenizer.encode(texts)[:, :-1]
        tokens = tokens[:, : self.model.max_length - 1]
        ends = tf.fill([tf.shape(texts)[0], 1], END_ID)
        return tf.concat([tokens, ends], axis=1).to_tensor(default_value=PAD_ID)

    def search(self, source: tf.Tensor, n_best: int = 1) -> Hypotheses:
        """Finds the `n_best` target sequences of source ids `[B, S]`."""
        beam_size, penalty = self.decoding.beam_size, self.decoding.length_penalty
        step, state, limits = self._prepare(source, beam_size)
        if beam_size == 1:
            best = greedy_search(step, state, limits, SPECIAL_IDS, length_penalty=penalty)
        else:
            best = beam_search(
                step,
                state,
                limits,
                SPECIAL_IDS,
                beam_size=beam_size,
                n_best=n_best,
                length_penalty=penalty,
            )
        return _end_empty(source, best)

    def _prepare(self, source: tf.Tensor, beam_size: int) -> tuple[Callable[..., Any], Any, Any]:
        """Encodes the source: the step function, its first state, and the length limits."""
        limits = length_limits(
            _lengths(source),
            ratio=self.decoding.max_length_ratio,
            offset=self.decoding.max_length_offset,
            maximum=self.model.max_length,
        )
        memory = self.model.prepare_memory(source)
        longest = tf.reduce_max(tf.concat([limits, [1]], axis=0))
        cache = self.model.empty_cache(tf.shape(source)[0] * beam_size, longest)

        def step(ids: tf.Tensor, index: tf.Tensor, cache: Any) -> tuple[tf.Tensor, Any]:
            return self.model.step(ids, index, cache, memory)

        return step, cache, limits

    def _translate_n_best(self, texts: tf.Tensor, n_best: int) -> dict[str, tf.Tensor]:
        return self._to_texts(self.search(self.encode(texts), n_best))

    def _to_texts(self, best: Hypotheses) -> dict[str, tf.Tensor]:
        shape = tf.shape(best.ids)  # [B, K, T]
        texts = self.tokenizer.decode(tf.reshape(best.ids, [-1, shape[2]]))
        return {"text": tf.reshape(texts, shape[:2]), "score": best.scores}


def translate_lines(
    translator: Translator, lines: Sequence[str], *, batch_size: int = 32, n_best: int = 1
) -> list[list[str]]:
    """Translates lines in batches of like length, and gives them back in order.

    Args:
        translator: What translates them.
        lines: The texts.
        batch_size: Texts translated at once.
        n_best: Translations of each; at most the translator's beam size.

    Returns:
        The `n_best` translations of each line, best first.
    """
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    outputs: list[list[str]] = [[] for _ in lines]
    for i in range(0, len(order), batch_size):
        chosen = order[i : i + batch_size]
        texts = tf.constant([lines[j] for j in chosen])
        if n_best == 1:
            rows = translator.translate(texts)["text"].numpy()[:, None]
        else:
            rows = translator.beam(texts)["text"].numpy()[:, :n_best]
        for j, row in zip(chosen, rows, strict=True):
            outputs[j] = [text.decode() for text in row]
    return outputs


def _end_empty(source: tf.Tensor, best: Hypotheses) -> Hypotheses:
    """Replaces what was found for sources without a token by the end token alone."""
    empty = (_lengths(source) <= 1)[:, None]  # [B, 1]
    at_start = tf.range(tf.shape(best.ids)[2]) == 0  # [T]
    return Hypotheses(
        ids=tf.where(empty[..., None], tf.where(at_start, END_ID, PAD_ID), best.ids),
        scores=tf.where(empty, 0.0, best.scores),
        lengths=tf.where(empty, 1, best.lengths),
    )


def _lengths(ids: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of padded ids: `[B, S] -> [B]`."""
    return tf.reduce_sum(tf.cast(ids != PAD_ID, tf.int32), axis=1)


def export_saved_model(translator: Translator, path: str | Path) -> Path:
    """Writes a translator as a SavedModel that needs only tensorflow and tensorflow_text.

    The signatures: `serving_default` (texts -> text, score), `beam` (texts -> n-best text,
    score), `score` (source, target -> log_probability, tokens), `ids` (source -> ids, score).

    Args:
        translator: What to write.
        path: The model's folder; the export goes into its next free number (`1`, `2`, ...), as
            TensorFlow Serving expects.

    Returns:
        The folder that was written.

    Raises:
        InputError: `path` is a file.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a folder was to be written there.")
    numbers = [int(entry.name) for entry in path.glob("*") if entry.name.isdigit()]
    target = path / str(max(numbers, default=0) + 1)
    with new_folder(target) as folder:
        try:
            tf.saved_model.save(
                translator,
                str(folder),
                signatures={
                    "serving_default": translator.translate,
                    "beam": translator.beam,
                    "score": translator.score,
                    "ids": translator.ids,
                },
            )
        except tf.errors.OpError as error:  # Of the file system: a full disk, no permission.
            raise InputError(f"Cannot write {target}: {error.message.splitlines()[0]}") from error
        about = {
            "ktransformer": __version__,
            "vocabulary_size": translator.tokenizer.vocabulary_size,
            "max_length": translator.model.max_length,
            "beam_size": translator.decoding.beam_size,
            "length_penalty": translator.decoding.length_penalty,
        }
        (folder / "ktransformer.json").write_text(json.dumps(about, indent=2) + "\n")
    return target
