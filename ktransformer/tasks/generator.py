"""The common part of the tasks of a causal language model: it continues ids."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from ktransformer.decoding import (
    ForcedPrefix,
    Hypotheses,
    Rule,
    SearchModel,
    sample,
    sampling_rules,
    to_seed,
)
from ktransformer.errors import InputError
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks.generation_config import GenerationConfig
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.inputs import check_ids
from ktransformer.tasks.search_task import SearchTask
from ktransformer.tasks.task import LiteSignature
from ktransformer.tasks.transformer_search import PromptSearch
from ktransformer.tasks.written_texts import fix_width, lengths_of, search_ids, search_texts
from ktransformer.text import SpecialIds

_PROMPTS = tf.TensorSpec([None, None], tf.int32, "prompts")
_SEED = tf.TensorSpec([], tf.int64, "seed")
_TEMPERATURE = tf.TensorSpec([], tf.float32, "temperature")
_SAMPLING = ("temperature", "top_k", "top_p", "min_p")


def _check_ids(generator: "Generator", name: str, values: tf.Tensor) -> None:
    if name == "prompts":
        check_ids(name, values.numpy(), generator.model)


class Generator(SearchTask):
    """A causal language model that continues prompts of ids; a subclass may take texts.

    A prompt of ids begins with the id at position 0, such as the start token of a model that was
    trained with one. Its score is that of the continuation alone. An empty prompt is the start
    token. A prompt is cut to `max_length` ids. Rules do not look at its first id.

    Args:
        model: A trained `CausalLanguageModel`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer, if the subclass takes texts.
        decoding: The settings of the search and of sampling; None for greedy search.
        rules: Decoding rules, after those of `decoding`.
        name: Name of the module.

    Attributes:
        max_length: The longest text, in tokens, the end token included.

    Raises:
        InputError: `decoding` allows longer texts than the model, or a subclass of the model
            overrides a method that cached decoding does not call, and not its counterpart.
        TypeError: `model` is no `CausalLanguageModel`.
    """

    model_class = CausalLanguageModel
    decoding_class = GenerationConfig
    SETTINGS = tuple(field.name for field in dataclasses.fields(GenerationConfig))
    RANKED_BY: ClassVar[Mapping[str, str]] = {"text": "score", "ids": "score"}
    model: CausalLanguageModel
    decoding: GenerationConfig

    def __init__(
        self,
        model: CausalLanguageModel,
        tokenizer: Any,
        decoding: GenerationConfig | None,
        rules: Sequence[Rule],
        *,
        name: str,
    ) -> None:
        super().__init__(model, tokenizer, decoding, rules, name=name)
        self.decoding.check_lengths(model.max_length)
        self.max_length = self.decoding.max_length or model.max_length
        # A generator of other settings has graphs of its own, which another call may need again.
        self._other = functools.lru_cache(maxsize=16)(self.with_parts)

    @property
    def special_ids(self) -> SpecialIds:
        """The ids of the start, the end, padding and unknown characters."""
        return self.tokenizer.special_ids

    def generate_ids(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int | None = None,
        rules: Sequence[Rule] = (),
        **settings: Any,
    ) -> list[list[int]]:
        """Continues prompts of ids, for callers with a tokenizer of their own.

        Args:
            prompts: The ids of each text's beginning, of any lengths; see the class.
            seed: As for `TextGenerator.generate`.
            rules: Decoding rules, after those of the generator.
            **settings: Other fields of `GenerationConfig`.

        Returns:
            The ids of the texts, each with its prompt, and with the end token where it was chosen.

        Raises:
            InputError: An id is no integer or is outside the vocabulary, or a setting is wrong.
        """
        chosen, temperature = self._choose(seed, rules, settings)
        pad = self.special_ids.pad
        rows = self._to_rows(prompts)
        if seed is None:
            found = chosen.continue_ids(rows)["ids"]
        else:
            found = chosen.sample_ids(rows, to_seed(seed), temperature)["ids"]
        both = zip(rows.tolist(), found.numpy().tolist(), strict=True)
        return [[i for i in (*row[: self.max_length], *new) if i != pad] for row, new in both]

    def _to_rows(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Pads prompts: int32 `[B, P]`."""
        try:
            lines = [np.asarray(prompt, dtype=object).tolist() for prompt in prompts]
            whole = all(isinstance(i, (int, np.integer)) for line in lines for i in line)
        except TypeError:
            whole = False
        if not whole:
            raise InputError("prompts must be lists of integers, a list for each prompt.")
        width = max(map(len, lines), default=0)
        rows = [line + [self.special_ids.pad] * (width - len(line)) for line in lines]
        return np.array(rows, np.int64).reshape(len(rows), width)

    def _choose(
        self, seed: int | None, rules: Sequence[Rule], settings: dict[str, Any]
    ) -> tuple[Any, float]:
        """Returns the generator of other settings and rules, and the temperature."""
        unknown = settings.keys() - set(self.SETTINGS)
        if unknown:
            raise InputError(
                f"The settings of generate are {', '.join(self.SETTINGS)}; "
                f"got {', '.join(sorted(unknown))}."
            )
        sampling = [name for name in _SAMPLING if name in settings]
        if seed is None and sampling:
            raise InputError(f"{sampling[0]} is for sampling, which needs a seed; got seed=None.")
        config = dataclasses.replace(self.decoding, **settings)
        temperature = config.temperature
        config = dataclasses.replace(config, temperature=self.decoding.temperature)
        if rules or config != self.decoding:
            return self._other(decoding=config, rules=(*self.rules, *rules)), temperature
        return self, temperature

    @graph_method(input_signature=[_PROMPTS], check=_check_ids)
    def continue_ids(self, prompts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the best continuation of prompts of ids `[B, P]`, padded at their ends.

        Returns:
            `ids`, int32 `[B, T]`, of the continuation, ended and padded; `score`, float32 `[B]`;
            `truncated`, int32 `[B]`, 1 where the prompt was cut: not every runtime takes booleans.
        """
        return _first_of(self._search_ids(prompts, n_best=1))

    @graph_method(input_signature=[_PROMPTS], check=_check_ids)
    def beam_ids(self, prompts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the K best continuations of prompts of ids `[B, P]`, K being the beam size.

        Returns:
            `ids`, int32 `[B, K, T]`, and `score`, float32 `[B, K]`, best first; `truncated`.
        """
        return self._search_ids(prompts, n_best=self.decoding.beam_size)

    @graph_method(input_signature=[_PROMPTS, _SEED, _TEMPERATURE], check=_check_ids)
    def sample_ids(
        self, prompts: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Draws a continuation of prompts of ids `[B, P]`; returns what `continue_ids` returns."""
        first, rest, truncated = self._split(prompts)
        drawn = self._draw(PromptSearch(self.model, first), rest, seed, temperature)
        return _first_of({"ids": drawn.ids, "score": drawn.scores, "truncated": truncated})

    def _search_ids(self, prompts: tf.Tensor, n_best: int) -> dict[str, tf.Tensor]:
        first, rest, truncated = self._split(prompts)
        best = self._find(PromptSearch(self.model, first), rest, n_best)
        return {"ids": best.ids, "score": best.scores, "truncated": truncated}

    def _split(self, prompts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the first ids `[B]`, the others, and which prompts were cut, `[B]`."""
        special = self.special_ids
        first = tf.pad(prompts[:, :1], [[0, 0], [0, 1]], constant_values=special.pad)[:, 0]
        first = tf.where(first == special.pad, special.start, first)
        truncated = lengths_of(prompts, special.pad) > self.max_length
        return first, prompts[:, 1 : self.max_length], tf.cast(truncated, tf.int32)

    def _find(self, search: SearchModel, read: tf.Tensor, n_best: int) -> Hypotheses:
        """Finds the best continuations of what is read after the first id, `[B, P]`."""
        return search_texts(
            search,
            self._limits(read),
            self.special_ids,
            self.decoding,
            n_best=n_best,
            rules=self._rules(read),
        )

    def _draw(
        self, search: SearchModel, read: tf.Tensor, seed: tf.Tensor, temperature: tf.Tensor
    ) -> Hypotheses:
        config = self.decoding
        options = sampling_rules(
            temperature=temperature, top_k=config.top_k, top_p=config.top_p, min_p=config.min_p
        )
        return sample(
            search,
            self._limits(read),
            search_ids(self.special_ids, config),
            seed=seed,
            score_forced_end=config.score_forced_end,
            rules=(*self._rules(read), *options),
        )

    def _rules(self, read: tf.Tensor) -> tuple[Rule, ...]:
        return (*self.find_rules(), ForcedPrefix(read))

    def _limits(self, read: tf.Tensor) -> tf.Tensor:
        limits = self.max_length - lengths_of(read, self.model.pad_id)
        most = self.decoding.max_new_tokens
        return limits if most is None else tf.minimum(limits, most)

    # Its exports.

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if signature != "ids":
            return super().search_wider(signature, inputs)
        wider = self.with_wider_beam()
        return wider._search_ids(inputs["prompts"], n_best=wider.decoding.beam_size)

    def ids_signature(
        self, function: Any, batch_size: int | None, scalars: Mapping[str, Any]
    ) -> LiteSignature:
        """Returns a signature of a .tflite that takes ids.

        With a fixed batch, prompts and continuations are padded to `max_length`.

        Args:
            function: `continue_ids`, `beam_ids` or `sample_ids`.
            batch_size: The number of prompts at once; None for any number.
            scalars: The values of its scalars to try it on, by name.
        """
        width = self.max_length if batch_size else None
        inputs = {"prompts": tf.TensorSpec([batch_size, width], tf.int32)}
        inputs |= {spec.name: spec for spec in function.input_signature[1:]}
        rows = np.full((batch_size or 2, width or min(6, self.max_length)), self.special_ids.pad)
        ordinary = self.special_ids.ordinary(self.model.vocabulary_size)
        for i, row in enumerate(rows):
            length = 1 + (i + 4) % min(5, len(row))
            row[:length] = ordinary[np.linspace(i, len(ordinary) - 1, length).astype(int)]
        probe = {"prompts": tf.constant(rows, tf.int32)}
        probe |= {name: tf.constant(value) for name, value in scalars.items()}

        def fixed(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            found = function.python_function(**tensors)
            ids = found.pop("ids")
            beams = [self.decoding.beam_size] if ids.shape.rank == 3 else []
            shape = [batch_size, *beams, self.max_length]
            for name, each in found.items():
                found[name] = tf.reshape(each, shape[: each.shape.rank])
            return {"ids": fix_width(ids, shape, self.special_ids.pad), **found}

        return LiteSignature(fixed if batch_size else function, inputs, probe)


def _first_of(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the outputs of an n-best search with the best `ids` and `score` alone."""
    return {**outputs, "ids": outputs["ids"][:, 0], "score": outputs["score"][:, 0]}
