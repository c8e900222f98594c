"""The common part of the tasks that write text: searches and samples of a next-token model."""

import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from ktransformer.decoding import Rule
from ktransformer.errors import InputError
from ktransformer.models import check_decoding
from ktransformer.models.decoding_check import check_decoder_overrides
from ktransformer.tasks.decoding_rules import to_rules
from ktransformer.tasks.description import Description
from ktransformer.tasks.shortlist import Shortlist
from ktransformer.tasks.task import SignatureCheck
from ktransformer.tasks.text_signatures import TEXT_SIGNATURES as TEXT_SIGNATURES
from ktransformer.tasks.text_task import TextTask
from ktransformer.text import BaseTokenizer

_FEW = 100  # Examples that all signatures but the first are compared on.


class SearchTask(TextTask):
    """A task that writes text with a cached decoder, by a search or by sampling.

    A subclass has the signatures `serving_default` and `beam`, which give `text` and `score`, and
    may have others.

    Args:
        model: A `model_class`; built here if it is not yet.
        tokenizer: Its tokenizer.
        decoding: The settings of the search; None for the defaults of `decoding_class`.
        rules: Decoding rules, after those of `decoding`.
        name: Name of the module.

    Attributes:
        decoding_class: The dataclass of the settings.
        reads_columns: Whether its searches read `output_columns` of the model.
        beam: The graph from texts `[B]` to the K best texts of each, K being the beam size.

    Raises:
        InputError: The tokenizer puts its start token into every text, or a subclass of the model
            overrides a method that cached decoding does not call,
            and not its counterpart.
        TypeError: `model` is no `model_class`, or `tokenizer` no tokenizer.
    """

    decoding_class: ClassVar[type]
    RANKED_BY: ClassVar[Mapping[str, str]] = {"text": "score"}
    beam: Any
    shortlist: Shortlist | None = None
    reads_columns: Any = False

    def __init__(
        self,
        model: keras.Model,
        tokenizer: Any,
        decoding: Any,
        rules: Sequence[Rule],
        *,
        name: str,
    ) -> None:
        super().__init__(model, tokenizer, name=name)
        if tokenizer is not None:
            check_no_start(tokenizer)
        try:
            check_decoder_overrides(model)
        except NotImplementedError as error:
            raise InputError(str(error)) from error
        self.decoding = decoding or self.decoding_class()
        self.rules = tuple(rules)

    def find_rules(self, decoding: Any = None) -> tuple[Rule, ...]:
        """Returns the rules of the settings, or of other settings, and those of the task."""
        return (*to_rules(decoding or self.decoding), *self.rules)

    # Its exports.

    def check_before_export(self) -> None:
        """Compares cached decoding with whole calls; see `models.check_decoding`."""
        try:
            check_decoding(self.model, columns=self.reads_columns)
        except ValueError as error:
            raise InputError(str(error)) from error

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if signature not in TEXT_SIGNATURES:
            return {}
        (texts,) = inputs.values()
        outputs: dict[str, tf.Tensor] = self.with_wider_beam().beam(texts)
        return outputs

    def with_wider_beam(self) -> Self:
        """Returns the same task with more than twice the beam size."""
        return self.with_settings(beam_size=2 * self.decoding.beam_size + 2)

    # Its settings.

    def with_model(self, model: keras.Model) -> Self:
        return self.with_parts(model=model)

    def with_parts(
        self,
        *,
        model: keras.Model | None = None,
        decoding: Any = None,
        rules: Sequence[Rule] = (),
        **others: Any,
    ) -> Self:
        """Returns the same task with other parts, which may be further arguments of its class."""
        # A subclass may lack the arguments of parts that are not used.
        if rules or self.rules:
            others["rules"] = rules or self.rules
        return type(self)(model or self.model, self.tokenizer, decoding or self.decoding, **others)

    @property
    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.decoding)

    def with_settings(self, **settings: Any) -> Self:
        """Returns the same task with other fields of its settings."""
        return self.with_parts(decoding=dataclasses.replace(self.decoding, **settings))

    @property
    def config(self) -> dict[str, Any]:
        return {"decoding": self.settings}

    # How its exports are verified.

    @classmethod
    def settings_of(cls, export: Any) -> dict[str, Any]:
        return dataclasses.asdict(export.decoding)

    def signature_checks(self, export: Description, form: str) -> list[SignatureCheck]:
        def prepare(signature: str, examples: Sequence[str]) -> dict[str, np.ndarray]:
            return self.example_inputs(signature, examples, export.batch_size)

        functions = self.saved_model_signatures()
        names = dict.fromkeys((*self.LITE_SIGNATURES, *functions))  # Those of a .tflite first.
        checks = [
            SignatureCheck(
                name,
                functions[name],
                functools.partial(prepare, name),
                max_examples=_FEW,
                best_texts=None if name in ("score", "annotate") else self._best_texts,
                n_best=name == "beam",
            )
            for name in names
            if name in functions and name in export.signatures
        ]
        return [check._replace(max_examples=None) for check in checks[:1]] + [
            check
            for check in checks[1:]
            # The other entries of an n-best list may well differ if the export is inexact.
            if not (check.n_best and export.inexact)
        ]

    @abstractmethod
    def example_inputs(
        self, signature: str, examples: Sequence[str], batch_size: int | None
    ) -> dict[str, np.ndarray]:
        """Returns the inputs of a signature, by name, for lines of text.

        Args:
            signature: One of `saved_model_signatures`.
            examples: The lines.
            batch_size: The number of inputs that an export is fixed to; None for any.
        """

    def _best_texts(self, outputs: Mapping[str, np.ndarray]) -> list[str]:
        if "text" in outputs:
            texts = outputs["text"].reshape(len(outputs["text"]), -1)[:, 0]
        else:
            texts = self.tokenizers[-1].decode(outputs["ids"]).numpy()
        return [text.decode() for text in texts]


def check_no_start(tokenizer: BaseTokenizer) -> None:
    """Checks that a tokenizer is one of texts to write.

    Raises:
        InputError: It puts a start token in front of every text, which no label has.
    """
    if tokenizer.adds_start:
        raise InputError(
            "A task that writes text takes a tokenizer without a start token in front of every "
            f"text; got a {tokenizer.kind} tokenizer."
        )
