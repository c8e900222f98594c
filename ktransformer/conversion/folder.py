"""The folder of a published model, in Hugging Face's layout."""

import functools
from pathlib import Path
from typing import Any

from ktransformer.conversion.json_file import read_json_file
from ktransformer.conversion.tensors import TensorReader
from ktransformer.errors import InputError
from ktransformer.saving.folder import is_model_folder

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
# Settings of `generate` that older versions wrote into config.json, for every kind of model.
GENERATION_SETTINGS = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "tf_legacy_loss",
    "top_k",
    "top_p",
    "typical_p",
)


class PublishedFolder:
    """The folder of a published model: its configuration, tensors and other files.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        config: The JSON object of config.json, without `GENERATION_SETTINGS`.
        generation_config: The settings of `generate`: those of config.json, over which those of
            generation_config.json go.

    Raises:
        InputError: It is no such folder, or one of the two files is no JSON object.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path}: there is no such folder.")
        if self.file(CONFIG) is None:
            raise InputError(f"{self.path} is no folder of a published model: it has no {CONFIG}.")
        self.config = self._read_object(CONFIG)
        names = self.config.keys() & set(GENERATION_SETTINGS)
        old = {name: self.config.pop(name) for name in sorted(names)}
        self.generation_config = {**old, **self._read_object(GENERATION_CONFIG)}

    @functools.cached_property
    def tensors(self) -> TensorReader:
        """The tensors, whose headers are read and checked at the first use.

        Raises:
            InputError: There are none, or a file is damaged.
        """
        return TensorReader(self.path)

    def file(self, name: str) -> Path | None:
        """Returns the path of a file in the folder; None if it is not there."""
        path = self.path / name
        return path if path.is_file() else None

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the folder; None if it is not there.

        Raises:
            InputError: It is no JSON, or a very large file.
        """
        path = self.file(name)
        return None if path is None else read_json_file(path)

    def _read_object(self, name: str) -> dict[str, Any]:
        values = {} if self.file(name) is None else self.read_json(name)
        if not isinstance(values, dict):
            raise InputError(f"{self.path / name} is damaged: it holds no JSON object.")
        return values


def is_published(path: str | Path) -> bool:
    """Tells whether a path looks like the folder of a published model, not of ours."""
    return (Path(path) / CONFIG).is_file() and not is_model_folder(path)
