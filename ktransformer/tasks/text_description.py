"""What every export that reads text tells of itself."""

import dataclasses

from ktransformer.tasks.description import Description


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDescription(Description):
    """The metadata of an export that reads text.

    Attributes:
        vocabulary_size: V, the number of ids.
        tokenizer_sha256: Of the file of the tokenizer that encodes the texts.
        tokenizer: The kind of its tokenizer; see `ktransformer.text.register_tokenizer`.
    """

    vocabulary_size: int
    tokenizer_sha256: str
    tokenizer: str = "sentencepiece"
