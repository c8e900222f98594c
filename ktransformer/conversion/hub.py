"""Published models by name: `hf://OWNER/NAME`, brought by huggingface_hub, which is optional."""

import importlib.util
import re
from pathlib import Path

from ktransformer.errors import InputError, first_line

PREFIX = "hf://"
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
# What `import_published` reads; no program among it.
_FILES = ("*.json", "*.model", "*.spm", "*.txt", "model.safetensors", "model-*-of-*.safetensors")
# The same weights once more where a model has both formats, so these are asked for last.
_PYTORCH_FILES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")


def is_hub_name(path: str | Path) -> bool:
    """Returns whether a path is a name on a hub."""
    return isinstance(path, str) and path.startswith(PREFIX)


def fetch(name: str) -> Path:
    """Brings a published model onto this machine, unless it is there.

    Its weights come as safetensors, or as PyTorch files where it has no others.

    Args:
        name: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`.

    Returns:
        Its folder, in the cache of huggingface_hub.

    Raises:
        InputError: It is no such name, huggingface_hub is not installed, or the hub cannot be
            reached or has no such model.
    """
    found = _NAME.fullmatch(name.removeprefix(PREFIX))
    if found is None:
        raise InputError(f"A model on the hub is named hf://OWNER/NAME; got {name}.")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(
            f'{name} needs huggingface_hub (pip install "ktransformer[hub]"), or the path of a '
            "folder that was downloaded before."
        )
    from huggingface_hub import snapshot_download

    repository, revision = found.groups()

    def download(patterns: tuple[str, ...]) -> Path:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*patterns]))

    try:
        folder = download(_FILES)
        if not any(folder.glob("model*.safetensors")):
            folder = download(_PYTORCH_FILES)
        return folder
    except Exception as error:  # Its errors, and those of the library for HTTP below it, are many.
        raise InputError(f"{name} cannot be brought from the hub: {first_line(error)}") from error
