"""A classifier from texts to classes and their probabilities."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from ktransformer.models import SequenceClassifier
from ktransformer.tasks.classes import checked_classes
from ktransformer.tasks.description import Description
from ktransformer.tasks.encoder_task import TEXTS, EncoderDescription, EncoderTask
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.inputs import cut_texts
from ktransformer.tasks.registry import register_task
from ktransformer.tasks.task import LiteSignature, SignatureCheck
from ktransformer.tasks.text_pairs import encode_pairs
from ktransformer.text import BaseTokenizer

_PAIR = [tf.TensorSpec([None], tf.string, name) for name in ("first", "second")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextClassifierDescription(EncoderDescription):
    """The metadata of an export of a text classifier.

    Attributes:
        classes: The names of the classes, in the order of their numbers.
    """

    kind: str = "text classifier"
    classes: tuple[str, ...]


@register_task
class TextClassifier(EncoderTask):
    """Tokenizer and classifier in one: every method is a graph that takes texts.

    As a SavedModel or a .tflite it has these signatures, B texts and n classes:

    - `serving_default`: `texts`, string `[B]`.
    - `pairs`: `first` and `second`, string `[B]`, two texts that are classified together, such as a
      premise and a hypothesis. Those of the second have the token type 1, if the model has any.

    Both give `class`, int32 `[B]`, the most probable class; `label`, string `[B]`, its name;
    `probability`, float32 `[B]`; `probabilities`, float32 `[B, n]`; and `truncated`, boolean `[B]`,
    which texts were cut to `max_length`, of a pair the longer one first.

    Args:
        model: A trained `SequenceClassifier`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer.
        classes: The names of its classes, in the order of their numbers.
        max_length: The longest text, in tokens; None for the model's `max_length`.

    Raises:
        InputError: See `EncoderTask`; or there are not as many names as classes.
        TypeError: `classes` is a single string, `model` no `SequenceClassifier`, or `tokenizer` no
            tokenizer.

    Example:
        ```python
        classifier = TextClassifier(model, tokenizer, ["negative", "positive"])
        classifier.classify(["A film to remember."])["label"]
        ```
    """

    description_class = TextClassifierDescription
    kind = description_class.kind
    model_class = SequenceClassifier
    LITE_SIGNATURES = ("serving_default", "pairs")
    SETTINGS = ("max_length",)
    RANKED_BY: ClassVar[Mapping[str, str]] = {"class": "probability", "label": "probability"}
    IDENTITY = (*EncoderTask.IDENTITY, "classes")
    model: SequenceClassifier

    def __init__(
        self,
        model: SequenceClassifier,
        tokenizer: BaseTokenizer,
        classes: Sequence[str],
        max_length: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, name="text_classifier", max_length=max_length)
        self.classes = checked_classes(classes, model.num_classes)

    @property
    def config(self) -> dict[str, Any]:
        return {**self.settings, "classes": list(self.classes)}

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {"serving_default": self.classify, "pairs": self.classify_pairs}

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        if name == "serving_default":
            return super().lite_signature(name, batch_size)
        texts = self.probe_texts(batch_size or 2)
        probe = {"first": texts, "second": tf.reverse(texts, [0])}
        return self.text_signature(name, batch_size, probe)

    def describe(self, signatures: Sequence[str], **others: Any) -> TextClassifierDescription:
        return super().describe(signatures, classes=self.classes, **others)

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = self.saved_model_signatures()[signature](**inputs)["probabilities"]  # [B, n]
        classes = tf.broadcast_to(tf.range(len(self.classes)), tf.shape(found))
        labels = tf.gather(tf.constant(self.classes), classes)
        return {"class": classes, "label": labels, "probability": found}

    def signature_checks(self, export: Description, form: str) -> list[SignatureCheck]:
        """Returns the checks; a pair is a text and another of its batch."""

        def prepare(examples: Sequence[str]) -> dict[str, np.ndarray]:
            texts = cut_texts(examples, self.max_length)
            return {"first": texts, "second": texts[::-1]}

        checks = super().signature_checks(export, form)
        return [
            check._replace(prepare=prepare) if check.signature == "pairs" else check
            for check in checks
        ]

    @graph_method(input_signature=[TEXTS])
    def classify(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies texts `[B]`; the class lists the outputs."""
        ids, truncated = self.encode(texts)
        return {**self._classify({"ids": ids}), "truncated": truncated}

    @graph_method(input_signature=_PAIR)
    def classify_pairs(self, first: tf.Tensor, second: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies pairs of texts, `[B]` each; the class lists the outputs."""
        ids, types, truncated = encode_pairs(self.tokenizer, first, second, self.max_length)
        inputs = {"ids": ids}
        if self.model.type_vocabulary_size > 1:
            inputs["token_types"] = types
        return {**self._classify(inputs), "truncated": truncated}

    def _classify(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logits = self.model(inputs, training=False)
        probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
        best = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        return {
            "class": best,
            "label": tf.gather(tf.constant(self.classes), best),
            "probability": tf.reduce_max(probabilities, axis=1),
            "probabilities": probabilities,
        }
