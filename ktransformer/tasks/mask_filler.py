"""A masked language model from text to text: fills, scores and sentence vectors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.losses import smoothed_cross_entropy
from ktransformer.models import MaskedLanguageModel
from ktransformer.numbers import to_integer
from ktransformer.tasks.encoder_task import TEXTS, EncoderDescription, EncoderTask
from ktransformer.tasks.graph_function import graph_function, graph_method
from ktransformer.tasks.inputs import to_tensor
from ktransformer.tasks.registry import register_task
from ktransformer.tasks.written_texts import decode_n_best, spread_ids
from ktransformer.text import MASK, BaseTokenizer

_TEXT = tf.TensorSpec([], tf.string, "text")


class Fill(NamedTuple):
    """One way to fill a mask.

    Attributes:
        text: The text with the piece in the mask's place.
        piece: The piece.
        probability: How sure the model is of it, among all ordinary pieces.
    """

    text: str
    piece: str
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskFillerDescription(EncoderDescription):
    """The metadata of an export of a masked language model.

    Attributes:
        top_k: The number of fills that it gives.
        mask_token: The mark of a missing token in a text.
    """

    kind: str = "masked language model"
    top_k: int
    mask_token: str


@register_task
class MaskFiller(EncoderTask):
    """Tokenizer and masked language model in one: every method is a graph that takes texts.

    As a SavedModel or a .tflite it has these signatures, B texts and K = `top_k`:

    - `serving_default`: `texts`, string `[B]`, to `text` and `piece`, string `[B, K]`, `ids`,
      int32 `[B, K]`, `probability`, float32 `[B, K]`, most probable first, and `truncated`.
    - `embed`: `texts` to `embedding`, float32 `[B, D]`, the mean over the real tokens, and
      `truncated`.
    - `score`: `texts` to `log_probability`, float32 `[B]`, `tokens`, int32 `[B]`, and `truncated`.

    `truncated`, boolean `[B]`, says which texts were cut to the model's `max_length`.

    Of several masks in a text the first is filled and the others stay, so that the text can be
    given again. A text without one comes back normalised, with empty pieces and probabilities of 0.

    Args:
        model: A trained `MaskedLanguageModel`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer, with a mask token.
        top_k: K, the number of fills that the signature gives.

    Raises:
        InputError: The tokenizer has no mask token, or another number of pieces or another padding
            than the model, or `top_k` is not from 1 to the number of ordinary pieces.
        TypeError: `model` is no `MaskedLanguageModel`, or `tokenizer` no tokenizer.

    Example:
        ```python
        filler = MaskFiller(model, tokenizer)
        for fill in filler.fill("two young <mask> are outside", top_k=5):
            print(fill.probability, fill.text)
        ```

    Reference: Devlin et al. 2019 (filling); Salazar et al. 2020 (pseudo-log-likelihood).
    """

    description_class = MaskFillerDescription
    kind = description_class.kind
    model_class = MaskedLanguageModel
    LITE_SIGNATURES = ("serving_default", "embed", "score")
    SETTINGS = ("top_k",)
    RANKED_BY: ClassVar[Mapping[str, str]] = dict.fromkeys(("text", "piece", "ids"), "probability")
    model: MaskedLanguageModel

    def __init__(
        self, model: MaskedLanguageModel, tokenizer: BaseTokenizer, top_k: int = 5
    ) -> None:
        super().__init__(model, tokenizer, name="mask_filler")
        self.special_ids = tokenizer.special_ids
        self.mask_token = str(tokenizer.mask_token)
        self._ordinary_ids = tokenizer.ordinary_ids
        self.top_k = self._checked(top_k)
        # Not in `fill_texts`, which is traced anew.
        self._fill_function = graph_function(self._fill)

    def check_tokenizer(self) -> None:
        if self.tokenizer.mask_token is None:
            raise InputError(f"This tokenizer has no mask token: train it to have {MASK}.")
        super().check_tokenizer()

    def _checked(self, top_k: int) -> int:
        return to_integer("top_k", top_k, least=1, most=len(self._ordinary_ids))

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {"serving_default": self.fill_texts, "embed": self.embed, "score": self.score}

    def probe_texts(self, count: int) -> tf.Tensor:
        pieces = spread_ids(self.tokenizer, 5)
        ids = np.tile([*pieces[:2], self.special_ids.mask, *pieces[2:]], (count, 1))
        ids[1:, 3:] = self.special_ids.pad  # The first text is the longest.
        return self.tokenizer.decode(tf.constant(ids, tf.int32))

    def describe(self, signatures: Sequence[str], **others: Any) -> MaskFillerDescription:
        return super().describe(signatures, mask_token=self.mask_token, **others)

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        wider = self.with_settings(top_k=min(2 * self.top_k + 2, len(self._ordinary_ids)))
        outputs: dict[str, tf.Tensor] = wider.fill_texts(inputs["texts"])
        return outputs

    def fill(self, text: str, top_k: int | None = None) -> list[Fill]:
        """Fills the first mask of a text.

        Args:
            text: A text with the tokenizer's `mask_token` in the place of a token.
            top_k: The number of fills; None for as many as the signature gives.

        Returns:
            The fills, most probable first.

        Raises:
            InputError: The text has no mask within the model's `max_length`, or `top_k` is not
                from 1 to the number of ordinary pieces.
        """
        tensor = to_tensor("text", text, _TEXT)
        if self.mask_token.encode() not in tensor.numpy():
            raise InputError(
                f"The text must have {self.mask_token} in the place of a token; got {text!r}."
            )
        count = self.top_k if top_k is None else self._checked(top_k)
        outputs = self._fill_function(tensor[None], count)
        if outputs["ids"][0, 0] == self.special_ids.pad:
            raise InputError(
                f"The text's {self.mask_token} is beyond the {self.max_length}th token."
            )
        names = Fill._fields
        rows = zip(*(outputs[name][0].numpy().tolist() for name in names), strict=True)
        return [Fill(text.decode(), piece.decode(), value) for text, piece, value in rows]

    @graph_method(input_signature=[TEXTS])
    def fill_texts(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Fills the first mask of each text `[B]`; the class lists the outputs."""
        return self._fill(texts, self.top_k)

    def _fill(self, texts: tf.Tensor, count: int) -> dict[str, tf.Tensor]:
        ids, truncated = self.encode(texts)  # [B, S]
        is_mask = tf.cast(ids == self.special_ids.mask, tf.int32)
        first = tf.argmax(is_mask, axis=1, output_type=tf.int32)[:, None]  # [B, 1]
        logits = self.model({"ids": ids, "positions": first}, training=False)
        probabilities, fills = tf.math.top_k(self._probabilities(logits[:, 0]), count)  # [B, K]
        has_mask = tf.reduce_max(is_mask, axis=1, keepdims=True) > 0  # [B, 1]
        fills = tf.where(has_mask, self._fill_ids(fills), self.special_ids.pad)
        at_first = (tf.range(tf.shape(ids)[1]) == first) & has_mask  # [B, S]
        each = tf.expand_dims(fills, 2)  # [B, K, 1]
        # Not at_first[:, None]: LiteRT slices no booleans.
        filled = tf.where(tf.expand_dims(at_first, 1), each, tf.expand_dims(ids, 1))  # [B, K, S]
        return {
            "text": decode_n_best(self.tokenizer, filled),
            "piece": decode_n_best(self.tokenizer, each),
            "ids": fills,
            "probability": tf.where(has_mask, probabilities, 0.0),
            "truncated": truncated,
        }

    @property
    def _is_contiguous(self) -> bool:
        """Whether no special id lies between the ordinary ones: a slice is faster than a gather."""
        first, last = self._ordinary_ids[[0, -1]]
        return bool(last - first + 1 == len(self._ordinary_ids))

    def _probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        """Turns logits `[B, V]` into probabilities of the ordinary pieces, `[B, N]`."""
        if self._is_contiguous:
            first, last = self._ordinary_ids[[0, -1]]
            logits = logits[:, first : last + 1]
        else:
            logits = tf.gather(logits, self._ordinary_ids, axis=1)
        return tf.nn.softmax(tf.cast(logits, tf.float32))

    def _fill_ids(self, places: tf.Tensor) -> tf.Tensor:
        """Turns places among the ordinary pieces into ids."""
        if self._is_contiguous:
            return places + self._ordinary_ids[0]
        return tf.gather(self._ordinary_ids, places)

    @graph_method(input_signature=[TEXTS])
    def embed(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns texts `[B]` into vectors: `embedding`, float32 `[B, D]`, and `truncated`."""
        ids, truncated = self.encode(texts)
        embedding = tf.cast(self.model.embed(ids), tf.float32)
        return {"embedding": embedding, "truncated": truncated}

    @graph_method(input_signature=[TEXTS])
    def score(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores texts `[B]` by their pseudo-log-likelihood.

        Every token is masked in turn and predicted from all others: one pass over the texts for
        each of their positions. The sum is not the logarithm of a probability: over all texts its
        exponentials do not add up to 1. Compare it between texts of like length.

        Returns:
            `log_probability`, float32 `[B]`, the sum over the tokens; `tokens`, int32 `[B]`, how
            many were scored: neither the start and end tokens nor the masks of the text itself;
            `truncated`, boolean `[B]`.
        """
        ids, truncated = self.encode(texts)
        special = self.special_ids
        scored = (ids != special.pad) & (ids != special.end) & (ids != special.mask)
        if self.tokenizer.adds_start:
            scored &= ids != special.start
        weights = tf.cast(scored, tf.float32)  # [B, S]
        places = tf.range(tf.shape(ids)[1])

        def mask_next(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            masked = tf.where((places == index) & scored, special.mask, ids)
            at_index = tf.fill([tf.shape(ids)[0], 1], index)
            logits = self.model({"ids": masked, "positions": at_index}, training=False)
            label = tf.gather(ids, [index], axis=1)
            loss = smoothed_cross_entropy(label, logits)[:, 0]
            return index + 1, total - loss * tf.gather(weights, index, axis=1)

        zeros = tf.zeros(tf.shape(ids)[:1])
        length = tf.shape(ids)[1]
        _, total = tf.while_loop(lambda index, _: index < length, mask_next, (0, zeros))
        tokens = tf.reduce_sum(tf.cast(scored, tf.int32), axis=1)
        return {"log_probability": total, "tokens": tokens, "truncated": truncated}
