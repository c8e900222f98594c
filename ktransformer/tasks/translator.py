"""The translator: text in, text out, in TensorFlow graphs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.decoding import Hypotheses, check_sampling, sample, to_seed
from ktransformer.errors import InputError
from ktransformer.losses import smoothed_cross_entropy, token_weights
from ktransformer.tasks.description import TranslatorDescription
from ktransformer.tasks.graph_function import graph_function, graph_method
from ktransformer.tasks.id_translator import (
    SPECIAL_IDS,
    IdTranslator,
    TransformerSearch,
    end_empty,
)
from ktransformer.tasks.inputs import to_tensor
from ktransformer.tasks.servable import LiteSignature
from ktransformer.text import END_ID, PAD_ID, START_ID

TEXT_SIGNATURES = ("serving_default", "beam")
MAX_TARGET_LENGTH = 65_536  # What a client may take for the longest output; export/c/lite.c does.
_TEXTS = tf.TensorSpec([None], tf.string, "texts")


class Translator(IdTranslator):
    """Tokenizer, model and search in one: every method is a graph from text to text.

    The same methods serve the BLEU callback, the commands and the exports. A text without any
    token (empty, or spaces alone) gives an empty text with a score of 0. A text of more than
    `max_source_length` tokens is cut there, and the result says so. Texts are given as a list, a
    NumPy array or a tensor of strings.

    Args:
        model: A trained `Transformer`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer.
        decoding: How to search. A beam size of 1 makes `translate` greedy.
        shortlist: What chooses the part of the vocabulary that a batch is searched in; None for
            all of it. `score` and `sample` know the whole vocabulary.

    Attributes:
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.

    Raises:
        InputError: The tokenizer has another number of pieces or another padding than the model,
            or `decoding` allows texts longer than the model's `max_length`.
        TypeError: `model` is no `Transformer`, or `tokenizer` no `Tokenizer`.

    Example:
        ```python
        translator = Translator(run.model, run.tokenizer, run.config.decoding)
        translator.translate(["Two dogs are running."])["text"]
        ```
    """

    kind = TranslatorDescription.kind
    LITE_SIGNATURES = (*TEXT_SIGNATURES, "ids", "encode", "decode_step")

    @graph_method(input_signature=[_TEXTS])
    def translate(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]`.

        Returns:
            `text`, string `[B]`; `score`, float32 `[B]`, log-probability /
            length ** length_penalty; `truncated`, boolean `[B]`, whether the text was cut.
        """
        outputs = self._translate_n_best(texts, n_best=1)
        return {**outputs, "text": outputs["text"][:, 0], "score": outputs["score"][:, 0]}

    @graph_method(input_signature=[_TEXTS])
    def beam(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]` into the K best hypotheses each, K being the beam size.

        Returns:
            `text`, string `[B, K]`, and `score`, float32 `[B, K]`, best first; `truncated`,
            boolean `[B]`.
        """
        return self._translate_n_best(texts, n_best=self.decoding.beam_size)

    @graph_method(
        input_signature=[
            tf.TensorSpec([None], tf.string, "source"),
            tf.TensorSpec([None], tf.string, "target"),
        ]
    )
    def score(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores target texts `[B]` as translations of source texts `[B]`.

        Returns:
            `log_probability`, float32 `[B]`, of the target with its end token; `tokens`, int32
            `[B]`, how many tokens that is; `truncated`, boolean `[B]`, whether either was cut.
        """
        sources, source_cut = self.tokenizer.encode_dense(source, self.max_source_length)
        labels, target_cut = self.tokenizer.encode_dense(target, self.max_target_length)
        start = tf.fill([tf.shape(labels)[0], 1], START_ID)
        inputs = tf.concat([start, labels[:, :-1]], axis=1)
        logits = self.model({"source": sources, "target": inputs}, training=False)
        weights = token_weights(labels, PAD_ID)
        losses = smoothed_cross_entropy(labels, logits)
        return {
            "log_probability": -tf.reduce_sum(losses * weights, axis=1),
            "tokens": tf.cast(tf.reduce_sum(weights, axis=1), tf.int32),
            "truncated": source_cut | target_cut,
        }

    def sample(
        self,
        texts: tf.Tensor,
        seed: int = 0,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        length_penalty: float = 1.0,
    ) -> dict[str, tf.Tensor]:
        """Draws a translation of each text instead of searching for the best.

        Every other set of options is traced anew.

        Args:
            texts: Strings `[B]`.
            seed: The same seed gives the same texts; any integer, of which 64 bits count.
            temperature: See `ktransformer.decoding.sample`, for all options.
            top_k: Likewise.
            top_p: Likewise.
            length_penalty: Likewise.

        Returns:
            `text`, string `[B]`, and `score`, float32 `[B]`.

        Raises:
            InputError: An argument is of another type or outside its range.
        """
        options = check_sampling(temperature, top_k, top_p, length_penalty)
        # By place and as Python's numbers: TensorFlow compares the calls of a function.
        return self._sample(to_tensor("texts", texts, _TEXTS), to_seed(seed), *options)

    @functools.partial(graph_function, reduce_retracing=True)
    def _sample(
        self,
        texts: tf.Tensor,
        seed: tf.Tensor,
        temperature: float,
        top_k: int,
        top_p: float,
        length_penalty: float,
    ) -> dict[str, tf.Tensor]:
        source = self.to_ids(texts)
        drawn = sample(
            TransformerSearch(self.model, source),
            self._limits(source),
            SPECIAL_IDS,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            length_penalty=length_penalty,
        )
        outputs = self._to_texts(end_empty(source, drawn))
        return {name: values[:, 0] for name, values in outputs.items()}

    def to_ids(self, texts: tf.Tensor) -> tf.Tensor:
        """Turns texts `[B]` into ids `[B, S]`, cut to `max_source_length`, ended and padded."""
        texts = to_tensor("texts", texts, _TEXTS)
        return self.tokenizer.encode_dense(texts, self.max_source_length)[0]

    def _translate_n_best(self, texts: tf.Tensor, n_best: int) -> dict[str, tf.Tensor]:
        source, truncated = self.tokenizer.encode_dense(texts, self.max_source_length)
        return {**self._to_texts(self.search(source, n_best)), "truncated": truncated}

    def _to_texts(self, best: Hypotheses) -> dict[str, tf.Tensor]:
        shape = tf.shape(best.ids)  # [B, K, T]
        texts = self.tokenizer.decode(tf.reshape(best.ids, [-1, shape[2]]))
        return {"text": tf.reshape(texts, shape[:2]), "score": best.scores}

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {
            "serving_default": self.translate,
            "beam": self.beam,
            "score": self.score,
            "ids": self.ids,
        }

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        """Returns one of `LITE_SIGNATURES`; see `Servable`.

        With a fixed batch, sources are padded to `max_source_length`, and ids given padded to
        `max_target_length`.
        """
        if self.max_target_length > MAX_TARGET_LENGTH:
            raise InputError(
                f"max_target_length must be at most {MAX_TARGET_LENGTH} in a .tflite; "
                f"got {self.max_target_length}."
            )
        source = self._probe(batch_size)
        if name in TEXT_SIGNATURES:
            function = self.translate if name == "serving_default" else self.beam
            texts = {"texts": tf.TensorSpec([batch_size], tf.string)}
            probe = {"texts": self.tokenizer.decode(source)}
            return LiteSignature(function, texts, probe, takes_text=True)
        length = self.max_source_length if batch_size else None
        ids = {"source": tf.TensorSpec([batch_size, length], tf.int32)}
        if name == "decode_step":
            return self._decode_step_signature(source, ids["source"])
        function = self.encode if name == "encode" else self._ids_function(batch_size)
        return LiteSignature(function, ids, {"source": source})

    def _decode_step_signature(self, source: tf.Tensor, spec: tf.TensorSpec) -> LiteSignature:
        """Returns the signature that takes what `encode` gives for sources like `source`."""
        encode: Any = self.encode
        if spec.shape.is_fully_defined():  # Then so are the shapes of what it gives.
            encode = graph_function(encode.python_function, input_signature=[spec])
        state = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype)
            for name, tensor in encode.get_concrete_function().structured_outputs.items()
        }
        inputs = {
            "ids": tf.TensorSpec(spec.shape[:1], tf.int32),
            "index": tf.TensorSpec([], tf.int32),
        }
        probe = {"ids": tf.fill(tf.shape(source)[:1], START_ID), "index": tf.constant(0)}
        inputs, probe = {**inputs, **state}, {**probe, **self.encode(source)}
        del inputs["limits"], probe["limits"]
        return LiteSignature(self.decode_step, inputs, probe)

    def _probe(self, batch_size: int | None) -> tf.Tensor:
        """Makes source ids `[B, S]` of several lengths, from all over the vocabulary."""
        rows, limit = batch_size or 2, self.max_source_length
        source = np.full((rows, limit if batch_size else min(8, limit)), PAD_ID, np.int32)
        pieces = np.linspace(END_ID + 1, self.tokenizer.vocabulary_size - 1, 7).astype(np.int32)
        for row in range(rows):
            length = min(1 + (row + 4) % 7, limit - 1)
            source[row, :length] = pieces[:length]
            source[row, length] = END_ID
        return tf.constant(source)

    def _ids_function(self, batch_size: int | None) -> Callable[..., dict[str, tf.Tensor]]:
        """Returns the translation of ids, with its output's shape fixed if the batch is."""

        def fixed_ids(source: tf.Tensor) -> dict[str, tf.Tensor]:
            found: dict[str, Any] = self.ids.python_function(source)
            shape = [batch_size, self.max_target_length]
            ids = tf.concat([found["ids"], tf.fill(shape, PAD_ID)], axis=1)
            fixed = {name: tf.reshape(found[name], shape[:1]) for name in ("score", "truncated")}
            return {"ids": tf.slice(ids, [0, 0], shape), **fixed}

        return self.ids if batch_size is None else fixed_ids

    def describe(self, signatures: Sequence[str], **others: Any) -> TranslatorDescription:
        return TranslatorDescription(
            signatures=tuple(signatures),
            vocabulary_size=self.model.vocabulary_size,
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            decoding=self.decoding,
            shortlist=None if self.shortlist is None else self.shortlist.size,
            special_ids=SPECIAL_IDS._asdict(),
            tokenizer_sha256=self.tokenizer.sha256,
            characters=self.tokenizer.characters,
            **others,
        )
