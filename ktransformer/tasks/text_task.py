"""The common part of the tasks that read text: tokenizer, folder, description and examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from ktransformer.tasks.inputs import UNBATCHED
from ktransformer.tasks.task import LiteSignature, Task, check_type
from ktransformer.text import BaseTokenizer, load_tokenizer, read_lines


class TextTask(Task):
    """A task with a tokenizer, whose folder holds it and whose examples are lines of text.

    Args:
        model: A `model_class`; built here if it is not yet.
        tokenizer: Its tokenizer.
        name: Name of the module.

    Raises:
        TypeError: `model` is no `model_class`, or `tokenizer` no tokenizer.
    """

    FILES: ClassVar[tuple[str, ...]] = ("tokenizer.model",)
    IDENTITY: ClassVar[tuple[str, ...]] = ("tokenizer_sha256", "vocabulary_size")
    description_class: ClassVar[type[Any]]
    tokenizer_class: ClassVar[type] = BaseTokenizer
    model: Any
    tokenizer: BaseTokenizer

    def __init__(self, model: keras.Model, tokenizer: BaseTokenizer, *, name: str) -> None:
        check_type("model", model, self.model_class)
        check_type("tokenizer", tokenizer, self.tokenizer_class)
        super().__init__(model, tokenizer, name=name)
        if not model.built:
            model.build()

    def text_signature(
        self, name: str, batch_size: int | None, probe: Mapping[str, Any]
    ) -> LiteSignature:
        """Returns a signature of a .tflite that is one of a SavedModel: texts `[B]` and scalars.

        Args:
            name: One of `saved_model_signatures`.
            batch_size: The number of texts at once; None for any number.
            probe: Inputs to try it on, by name.
        """
        function: Any = self.saved_model_signatures()[name]
        inputs = {
            spec.name: tf.TensorSpec(
                [batch_size] if spec.shape.rank and spec.name not in UNBATCHED else spec.shape,
                spec.dtype,
            )
            for spec in function.input_signature
        }
        tensors = {key: tf.constant(values) for key, values in probe.items()}
        return LiteSignature(function, inputs, tensors, takes_text=True)

    def describe(self, signatures: Sequence[str], **others: Any) -> Any:
        return self.description_class(
            signatures=tuple(signatures),
            vocabulary_size=self.model.vocabulary_size,
            tokenizer_sha256=self.tokenizer.sha256,
            tokenizer=self.tokenizer.kind,
            **others,
        )

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.FILES, *self.OPTIONAL_FILES)[: len(self.tokenizers)]

    def write_files(self, folder: Path) -> None:
        for tokenizer, name in zip(self.tokenizers, self.files, strict=True):
            tokenizer.save(folder / name)

    @classmethod
    def from_folder(cls, model: keras.Model, folder: Path, config: dict[str, Any]) -> Self:
        return cls(model, load_tokenizer(folder / cls.FILES[0]), **config)

    @classmethod
    def read_examples(cls, path: str | Path) -> list[str]:
        return list(read_lines(path))
