"""The common part of the tasks of a text encoder: they read texts as a whole and write none."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from ktransformer.models import TextEncoder
from ktransformer.numbers import to_integer
from ktransformer.tasks.description import Description
from ktransformer.tasks.inputs import cut_texts
from ktransformer.tasks.task import LiteSignature, SignatureCheck, check_padding, check_pieces
from ktransformer.tasks.text_description import TextDescription
from ktransformer.tasks.text_task import TextTask
from ktransformer.tasks.written_texts import spread_ids
from ktransformer.text import BaseTokenizer

TEXTS = tf.TensorSpec([None], tf.string, "texts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderDescription(TextDescription):
    """The metadata of an export of a text encoder with or without a head.

    Attributes:
        max_length: The longest text, in tokens, the end token included.
    """

    max_length: int


class EncoderTask(TextTask):
    """A task whose signatures take texts `[B]`, of which it reads at most `max_length` tokens.

    A subclass is made from a model, a tokenizer and `SETTINGS`, each of which is an attribute.

    Args:
        model: A `TextEncoder`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer.
        name: Name of the module.
        max_length: The longest text, in tokens; None for the model's `max_length`.

    Raises:
        InputError: The tokenizer has another number of pieces or another padding than the model,
            or `max_length` is not from 1 to the model's.
        TypeError: `model` is no `model_class`, or `tokenizer` no tokenizer.
    """

    IDENTITY = (*TextTask.IDENTITY, "max_length")
    model: TextEncoder

    def __init__(
        self,
        model: TextEncoder,
        tokenizer: BaseTokenizer,
        *,
        name: str,
        max_length: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, name=name)
        self.check_tokenizer()
        most = model.max_length
        self.max_length = (
            most if max_length is None else to_integer("max_length", max_length, least=1, most=most)
        )

    def check_tokenizer(self) -> None:
        """Checks that the tokenizer goes with the model.

        Raises:
            InputError: It does not.
        """
        check_pieces(self.tokenizer, self.model.vocabulary_size)
        check_padding(self.model, self.tokenizer)

    def encode(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns texts `[B]` into ids, int32 `[B, T]`, and which of them were cut, boolean `[B]`."""
        return self.tokenizer.encode_dense(texts, self.max_length)

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        return self.text_signature(name, batch_size, {"texts": self.probe_texts(batch_size or 2)})

    def probe_texts(self, count: int) -> tf.Tensor:
        """Makes texts `[B]` to try a conversion on, the first of which is the longest."""
        ids = np.tile(spread_ids(self.tokenizer, 5), (count, 1))
        ids[1:, 3:] = self.tokenizer.special_ids.pad
        return self.tokenizer.decode(tf.constant(ids, tf.int32))

    def describe(self, signatures: Sequence[str], **others: Any) -> Any:
        settings = {name: getattr(self, name) for name in self.SETTINGS}
        return super().describe(signatures, **{"max_length": self.max_length, **settings, **others})

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.SETTINGS}

    def with_model(self, model: TextEncoder) -> Self:
        return type(self)(model, self.tokenizer, **self.config)

    def with_settings(self, **settings: Any) -> Self:
        return type(self)(self.model, self.tokenizer, **{**self.config, **settings})

    @classmethod
    def settings_of(cls, export: Any) -> dict[str, Any]:
        return {name: getattr(export, name) for name in cls.SETTINGS}

    def signature_checks(self, export: Description, form: str) -> list[SignatureCheck]:
        """Returns the same check for each signature: all of them take texts."""

        def prepare(examples: Sequence[str]) -> dict[str, np.ndarray]:
            return {"texts": cut_texts(examples, self.max_length)}

        functions: dict[str, Callable[..., Any]] = self.saved_model_signatures()
        return [
            SignatureCheck(name, function, prepare)
            for name, function in functions.items()
            if name in export.signatures
        ]
