"""Opens tokenizers of every kind."""

from pathlib import Path

from ktransformer.text import tokenizer as tokenizer  # Registers their kinds.
from ktransformer.text import word_pieces as word_pieces
from ktransformer.text.base_tokenizer import BaseTokenizer, find_tokenizer


def load_tokenizer(path: str | Path) -> BaseTokenizer:
    """Reads a tokenizer of any kind, which its file tells.

    Raises:
        InputError: The file holds no tokenizer of a registered kind, or a damaged one.
    """
    content = Path(path).read_bytes()
    return find_tokenizer(content, path)(content)
