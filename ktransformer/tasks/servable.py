"""What every export is made of: a model with all that stands between it and its user's data."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import keras
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.runtime.backend import backend_message
from ktransformer.tasks.description import Description
from ktransformer.text import PAD_ID, Tokenizer


class LiteSignature(NamedTuple):
    """One signature of a .tflite.

    Attributes:
        function: A `tf.function` or plain function of named tensors that returns named tensors.
        inputs: What it takes, by name.
        probe: Inputs to try the converted signature on, by name; they may have other shapes than
            `inputs` where these are open.
        takes_text: Whether the tokenizer's LiteRT form runs in it.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    probe: dict[str, tf.Tensor]
    takes_text: bool = False


class Servable(tf.Module, abc.ABC):
    """A model from its user's data to its user's answer, in TensorFlow graphs.

    `export_saved_model` and `export_lite` write any of them. A subclass says which signatures
    there are and how the export is described.

    Args:
        model: The Keras model, built.
        tokenizer: Its tokenizer; None where no text comes in.
        name: Name of the module.

    Raises:
        InputError: Keras is not set to TensorFlow.

    Attributes:
        kind: What sort of model it is, in words.
        LITE_SIGNATURES: The names of the signatures that a .tflite can have, in their order.
    """

    kind: ClassVar[str]
    LITE_SIGNATURES: ClassVar[tuple[str, ...]]

    def __init__(
        self, model: keras.Model, tokenizer: Tokenizer | None = None, *, name: str
    ) -> None:
        super().__init__(name=name)
        if keras.backend.backend() != "tensorflow":
            raise InputError(backend_message(f"a {type(self).__name__}"))
        self.model = model
        self.tokenizer = tokenizer

    @abc.abstractmethod
    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        """Returns the `tf.function`s, with input signatures, that a SavedModel has, by name."""

    @abc.abstractmethod
    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        """Returns one of `LITE_SIGNATURES`.

        Args:
            name: Which.
            batch_size: How many inputs at once; None for any number.

        Raises:
            InputError: This model, or its batch size, has no LiteRT form.
        """

    @abc.abstractmethod
    def describe(self, signatures: Sequence[str], **others: Any) -> Description:
        """Describes an export with these signatures; `others` are what only the export knows."""

    def check_before_export(self) -> None:
        """Checks what an export relies on beyond its own graph; nothing in general.

        Raises:
            InputError: The export would do something else than the model.
        """

    @property
    def texts_are_independent(self) -> bool:
        """Whether what becomes of a text is the same whatever texts are in its batch."""
        return True

    @abc.abstractmethod
    def with_model(self, model: keras.Model) -> Self:
        """Returns the same around another model."""

    def in_float32(self) -> Self:
        """Makes what was trained in mixed precision compute in float32, as its weights are."""
        if self.model.compute_dtype == "float32":
            return self
        wide = type(self.model).from_config({**self.model.get_config(), "dtype": "float32"})
        wide.build()
        wide.set_weights(self.model.get_weights())
        return self.with_model(wide)


def check_type(name: str, value: Any, kind: type) -> None:
    """Refuses an argument of another class, as a swapped one is.

    Raises:
        TypeError: It is no instance of `kind`.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be of type {kind.__name__}; got one of type {type(value).__name__}."
        )


def check_servable(servable: Any) -> None:
    """Refuses to export anything but a servable, such as the model alone.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(servable, Servable):
        raise TypeError(
            "servable must be a Translator, a MaskFiller or an ImageClassifier; "
            f"got one of type {type(servable).__name__}."
        )


def check_padding(model: Any) -> None:
    """Refuses a model whose padding is another id than a tokenizer's.

    Raises:
        InputError: It is.
    """
    if model.pad_id != PAD_ID:
        raise InputError(
            f"The model's pad_id must be {PAD_ID}, the padding of every tokenizer; "
            f"got pad_id={model.pad_id}."
        )


def check_pieces(tokenizer: Tokenizer, vocabulary_size: int) -> None:
    """Refuses a tokenizer that has another number of pieces than its model has ids.

    Raises:
        InputError: It has.
    """
    if tokenizer.vocabulary_size != vocabulary_size:
        raise InputError(
            f"The tokenizer has {tokenizer.vocabulary_size} pieces, but the model "
            f"{vocabulary_size}."
        )
