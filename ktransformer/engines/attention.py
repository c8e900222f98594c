"""A picture of what a translator's decoder attends to in the source."""

import numpy as np
import tensorflow as tf

from ktransformer.drawing import draw_weights
from ktransformer.tasks import Translator
from ktransformer.text import BaseTokenizer


def draw_attention(translator: Translator, text: str, *, dpi: int = 150) -> bytes:
    """Translates a text and draws the cross-attention of the last decoder block.

    Row t of a head's panel belongs to the prediction of target piece t.

    Args:
        translator: The translator to look into.
        text: What to translate; the picture's font has to know its letters.
        dpi: Pixels of an inch; a piece of the source has 0.8 inches.

    Returns:
        The content of a PNG file.

    Raises:
        InputError: Matplotlib, which the extra `plots` installs, is missing; or the text has no
            token.

    Example:
        ```python
        Path("attention.png").write_bytes(draw_attention(ktransformer.load("runs/en-de"), "A dog."))
        ```
    """
    special = translator.target_tokenizer.special_ids
    source = translator.to_ids(tf.constant([text]))  # [1, S]
    target = translator.ids(source)["ids"]
    target = target[target != special.pad][None]  # [1, T]
    inputs = tf.concat([tf.constant([[special.start]], target.dtype), target[:, :-1]], axis=1)
    weights = translator.model.cross_attention_weights({"source": source, "target": inputs})
    return draw_weights(
        weights[-1][0],  # [H, T, S]
        _names(translator.tokenizer, source),
        _names(translator.target_tokenizer, target),
        title=f"{text}  →  {translator.target_tokenizer.decode(target)[0].numpy().decode()}",
        legend="cross-attention, last decoder block",
        dpi=dpi,
    )


def _names(tokenizer: BaseTokenizer, ids: tf.Tensor) -> list[str]:
    """Returns the pieces of ids `[1, T]`, a leading space as `␣`."""
    row = np.asarray(ids)[0]
    pieces, end = tokenizer.pieces(row), tokenizer.special_ids.end
    return [
        "end" if i == end else piece.replace("\N{LOWER ONE EIGHTH BLOCK}", "␣")
        for i, piece in zip(row, pieces, strict=True)
    ]
