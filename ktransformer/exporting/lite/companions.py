"""The paths of the tokenizers that lie beside a .tflite of ids."""

from pathlib import Path


def tokenizer_beside(path: str | Path) -> Path:
    """Returns the path of the tokenizer that goes with a file that takes no text."""
    return Path(f"{path}.tokenizer.model")


def target_tokenizer_beside(path: str | Path) -> Path:
    """Returns the path of the target's tokenizer, where it is another."""
    return Path(f"{path}.target_tokenizer.model")
