"""A causal language model from text to text: continuations, samples and scores."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from ktransformer.decoding import Hypotheses, Rule, to_seed
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks.generation_config import GenerationConfig
from ktransformer.tasks.generator import Generator
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.inputs import cut_texts, to_tensor
from ktransformer.tasks.registry import register_task
from ktransformer.tasks.task import LiteSignature, check_padding, check_pieces
from ktransformer.tasks.text_description import TextDescription
from ktransformer.tasks.transformer_search import DecoderSearch
from ktransformer.tasks.written_texts import (
    decode_n_best,
    first_best,
    probe_ids,
    score_labels,
    start_labels,
)
from ktransformer.text import BaseTokenizer, load_tokenizer

_PROMPTS = tf.TensorSpec([None], tf.string, "prompts")
_TEXTS = tf.TensorSpec([None], tf.string, "texts")
_SEED = tf.TensorSpec([], tf.int64, "seed")
_TEMPERATURE = tf.TensorSpec([], tf.float32, "temperature")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextGeneratorDescription(TextDescription):
    """The metadata of an export of a causal language model.

    Attributes:
        decoding: The settings of the search and of sampling.
    """

    kind: str = "causal language model"
    decoding: GenerationConfig


@register_task
class TextGenerator(Generator):
    """Tokenizer, causal language model and search in one, from prompts to texts.

    A text is the prompt, normalised as the tokenizer does, with its continuation: only so is it
    known whether a space lies between them. Its score is that of the continuation alone. An empty
    prompt gives a text from its start. A prompt is cut to one token less than the longest text.

    As a SavedModel or a .tflite it has these signatures, B texts and K = `beam_size`:

    - `serving_default`: `prompts`, string `[B]`, to the best `text`, string `[B]`, by greedy or
      beam search, `score`, float32 `[B]`, log-probability / length ** `length_penalty`, and
      `truncated`.
    - `beam`: `prompts` to the K best, `text` and `score` `[B, K]`, best first, and `truncated`.
    - `sample`: `prompts`, `seed`, int64 `[]`, and `temperature`, float32 `[]`, to `text`, `score`
      and `truncated`, `[B]` each. The same seed gives the same texts.
    - `score`: `texts`, string `[B]`, to `log_probability`, float32 `[B]`, of the text with its end
      token; `tokens`, int32 `[B]`, their number; and `truncated`.
    - `ids`: `prompts`, int32 `[B, P]`, the start token and the ids of the prompt, padded at their
      ends, to the `ids`, int32 `[B, T]`, of the best continuation, `score` and `truncated`, int32
      `[B]`; for callers with a tokenizer, as where this one has no LiteRT form.

    `truncated`, boolean `[B]`, says which prompts or texts were cut.

    Args:
        model: A trained `CausalLanguageModel`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer.
        decoding: The settings of the search and of sampling; None for greedy search.
        rules: Decoding rules of every search and of sampling, after those of `decoding`. Neither a
            folder nor an export's description names them.

    Attributes:
        max_length: The longest text, in tokens, the end token included.

    Raises:
        InputError: The tokenizer has another number of pieces or another padding than the model,
            `decoding` allows longer texts than the model, or a subclass of the model overrides a
            method that cached decoding does not call, and not its counterpart.
        TypeError: `model` is no `CausalLanguageModel`, or `tokenizer` no tokenizer.

    Example:
        ```python
        generator = TextGenerator(model, tokenizer)
        generator.generate(["two young"])
        generator.generate(["two young"], seed=1, temperature=0.8, top_p=0.9)
        ```
    """

    description_class = TextGeneratorDescription
    kind = description_class.kind
    LITE_SIGNATURES = ("serving_default", "beam", "sample", "score", "ids")

    def __init__(
        self,
        model: CausalLanguageModel,
        tokenizer: BaseTokenizer,
        decoding: GenerationConfig | None = None,
        *,
        rules: Sequence[Rule] = (),
    ) -> None:
        super().__init__(model, tokenizer, decoding, rules, name="text_generator")
        check_pieces(tokenizer, model.vocabulary_size)
        check_padding(model, tokenizer)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seed: int | None = None,
        rules: Sequence[Rule] = (),
        **settings: Any,
    ) -> list[str]:
        """Continues each prompt; `beam` and `sample` give scores, too.

        Every other set of settings and rules is traced anew, except of seeds and temperatures.

        Args:
            prompts: The beginnings of the texts; `""` for a text from its start.
            seed: Draws the tokens, and the same seed gives the same texts; any integer, of which
                64 bits count. None to search for the most probable text.
            rules: Decoding rules, after those of the generator.
            **settings: Other fields of `GenerationConfig`, such as `beam_size`, `max_new_tokens`
                or, with a seed, `temperature`, `top_k`, `top_p` and `min_p`.

        Returns:
            The texts, each with its prompt.

        Raises:
            InputError: A prompt is no string, a setting is unknown or out of its range, or one of
                sampling is given without a seed.
        """
        chosen, temperature = self._choose(seed, rules, settings)
        texts = to_tensor("prompts", list(prompts), _PROMPTS)
        if seed is None:
            found = chosen.continue_prompts(texts)["text"]
        else:
            found = chosen.sample(texts, to_seed(seed), temperature)["text"]
        return [text.decode() for text in found.numpy().tolist()]

    @graph_method(input_signature=[_PROMPTS])
    def continue_prompts(self, prompts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the best continuation of each prompt `[B]`; the class lists the outputs."""
        return first_best(self._search(prompts, n_best=1))

    @graph_method(input_signature=[_PROMPTS])
    def beam(self, prompts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the K best continuations of each prompt `[B]`; the class lists the outputs."""
        return self._search(prompts, n_best=self.decoding.beam_size)

    @graph_method(input_signature=[_PROMPTS, _SEED, _TEMPERATURE])
    def sample(
        self, prompts: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Draws a continuation of each prompt `[B]`; the class lists the outputs.

        A temperature of 0 or less counts as the lowest one. `top_k`, `top_p` and `min_p` are those
        of `decoding`.
        """
        read, truncated = self._read(prompts)
        drawn = self._draw(DecoderSearch(self.model, read), read, seed, temperature)
        return first_best({**self._to_texts(read, drawn), "truncated": truncated})

    @graph_method(input_signature=[_TEXTS])
    def score(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores whole texts `[B]`; the class lists the outputs."""
        labels, truncated = self.tokenizer.encode_dense(texts, self.max_length)
        special = self.tokenizer.special_ids
        logits = self.model(start_labels(labels, special.start), training=False)
        return {**score_labels(labels, logits, special.pad), "truncated": truncated}

    def _search(self, prompts: tf.Tensor, n_best: int) -> dict[str, tf.Tensor]:
        read, truncated = self._read(prompts)
        best = self._find(DecoderSearch(self.model, read), read, n_best)
        return {**self._to_texts(read, best), "truncated": truncated}

    def _read(self, prompts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns prompts into ids `[B, P]`, padded and without an end, and says which were cut."""
        special = self.tokenizer.special_ids
        ids, truncated = self.tokenizer.encode_dense(prompts, self.max_length)
        return tf.where(ids == special.end, special.pad, ids), truncated

    def _to_texts(self, read: tf.Tensor, best: Hypotheses) -> dict[str, tf.Tensor]:
        # Padding between the two is decoded to nothing.
        prompts = tf.repeat(tf.expand_dims(read, 1), tf.shape(best.ids)[1], axis=1)
        ids = tf.concat([prompts, best.ids], axis=2)
        return {"text": decode_n_best(self.tokenizer, ids), "score": best.scores}

    # Its exports.

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {
            "serving_default": self.continue_prompts,
            "beam": self.beam,
            "sample": self.sample,
            "score": self.score,
            "ids": self.continue_ids,
        }

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        if name == "ids":
            return self.ids_signature(self.continue_ids, batch_size, {})
        longest = min(5, self.max_length - 1)
        lengths = [(longest + row) % (longest + 1) for row in range(batch_size or 2)]
        texts = self.tokenizer.decode(probe_ids(self.tokenizer, lengths, longest + 1))
        return self.text_signature(name, batch_size, self._inputs(name, texts.numpy()))

    def _inputs(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        if signature == "score":
            return {"texts": texts}
        if signature != "sample":
            return {"prompts": texts}
        temperature = np.array(self.decoding.temperature, np.float32)
        return {"prompts": texts, "seed": np.array(1, np.int64), "temperature": temperature}

    def describe(self, signatures: Sequence[str], **others: Any) -> TextGeneratorDescription:
        return super().describe(signatures, decoding=self.decoding, **others)

    # Its folder, and how its exports are verified.

    @classmethod
    def from_folder(cls, model: CausalLanguageModel, folder: Path, config: dict[str, Any]) -> Self:
        decoding = GenerationConfig(**config.get("decoding", {}))
        return cls(model, load_tokenizer(folder / cls.FILES[0]), decoding)

    # How its exports are verified.

    def example_inputs(
        self, signature: str, examples: Sequence[str], batch_size: int | None
    ) -> dict[str, np.ndarray]:
        """Returns the inputs of a signature: each line is a prompt, and a text to score."""
        texts = cut_texts(examples, self.max_length)
        if signature != "ids":
            return self._inputs(signature, texts)
        read, _ = self._read(tf.constant(texts))
        start = tf.fill([len(texts), 1], self.special_ids.start)
        prompts = tf.concat([start, read], axis=1)[:, : self.max_length].numpy()
        more = [(0, 0), (0, self.max_length - prompts.shape[1] if batch_size else 0)]
        return {"prompts": np.pad(prompts, more, constant_values=self.model.pad_id)}
