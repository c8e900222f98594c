"""A causal language model without a tokenizer: from ids to ids."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np

from ktransformer.decoding import Rule
from ktransformer.errors import InputError, brief
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks.description import Description
from ktransformer.tasks.generation_config import GenerationConfig
from ktransformer.tasks.generator import Generator
from ktransformer.tasks.registry import register_task
from ktransformer.tasks.task import LiteSignature, check_padding
from ktransformer.text import SpecialIds


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdGeneratorDescription(Description):
    """The metadata of an export of a causal language model of ids.

    Attributes:
        vocabulary_size: V, the number of ids.
        max_length: The longest prompt, and the longest text after its first id, in ids.
        special_ids: The ids of `start`, `end`, `pad` and `unknown`.
        decoding: The settings of the search and of sampling.
    """

    kind: str = "causal language model of ids"
    vocabulary_size: int
    max_length: int
    special_ids: dict[str, int]
    decoding: GenerationConfig


@register_task
class IdGenerator(Generator):
    """A causal language model and its search, from ids to ids: the tokenizer is the caller's.

    Prompts and scores are those of `Generator`. As a SavedModel or a .tflite it has these
    signatures, B prompts and K = `beam_size`:

    - `serving_default`: `prompts`, int32 `[B, P]`, padded at their ends, to the `ids`, int32
      `[B, T]`, of the best continuation by greedy or beam search, `score`, float32 `[B]`, and
      `truncated`, int32 `[B]`.
    - `beam`: `prompts` to the K best: `ids` `[B, K, T]`, `score` `[B, K]`, best first, and
      `truncated`.
    - `sample`: `prompts`, `seed`, int64 `[]`, and `temperature`, float32 `[]`, to what
      `serving_default` gives. The same seed gives the same ids.

    Args:
        model: A trained `CausalLanguageModel`, or a subclass of it; built here if it is not yet.
        special_ids: The ids of the start, the end, padding and unknown characters. Of these, only
            the end is written, and, without `suppress_unknown`, the unknown one.
        decoding: The settings of the search and of sampling; None for greedy search.
        rules: Decoding rules of every search and of sampling, after those of `decoding`. Neither a
            folder nor an export's description names them.

    Raises:
        InputError: As `Generator`; or two special ids are equal, one is outside the vocabulary, or
            the padding is not the model's.
        TypeError: `model` is no `CausalLanguageModel`.

    Example:
        ```python
        generator = IdGenerator(model, SpecialIds(start=52, end=50, pad=51, unknown=53))
        generator.generate_ids([[5, 7], [9]], max_new_tokens=20)
        ```
    """

    description_class = IdGeneratorDescription
    kind = description_class.kind
    tokenizer_class = type(None)
    LITE_SIGNATURES = ("serving_default", "beam", "sample")
    FILES = ()
    IDENTITY: ClassVar[tuple[str, ...]] = ("vocabulary_size", "special_ids")

    def __init__(
        self,
        model: CausalLanguageModel,
        special_ids: SpecialIds,
        decoding: GenerationConfig | None = None,
        *,
        rules: Sequence[Rule] = (),
    ) -> None:
        super().__init__(model, None, decoding, rules, name="id_generator")
        self._special_ids = special_ids.checked(model.vocabulary_size)
        check_padding(model, self)

    @property
    def special_ids(self) -> SpecialIds:
        return self._special_ids

    @property
    def beam(self) -> Any:  # The name by which `SearchTask` finds it.
        """The graph of `beam_ids`."""
        return self.beam_ids

    def with_parts(
        self,
        *,
        model: keras.Model | None = None,
        decoding: Any = None,
        rules: Sequence[Rule] = (),
        **others: Any,
    ) -> Self:
        return type(self)(
            model or self.model,
            self.special_ids,
            decoding or self.decoding,
            rules=rules or self.rules,
            **others,
        )

    # Its exports.

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {
            "serving_default": self.continue_ids,
            "beam": self.beam_ids,
            "sample": self.sample_ids,
        }

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        function = self.saved_model_signatures()[name]
        return self.ids_signature(function, batch_size, self._scalars(name))

    def _scalars(self, signature: str) -> dict[str, np.ndarray]:
        if signature != "sample":
            return {}
        temperature = np.array(self.decoding.temperature, np.float32)
        return {"seed": np.array(1, np.int64), "temperature": temperature}

    def describe(self, signatures: Sequence[str], **others: Any) -> IdGeneratorDescription:
        return IdGeneratorDescription(
            signatures=tuple(signatures),
            vocabulary_size=self.model.vocabulary_size,
            max_length=self.max_length,
            special_ids=self._special_numbers(),
            decoding=self.decoding,
            **others,
        )

    def _special_numbers(self) -> dict[str, int]:
        ids = self.special_ids._asdict().items()
        return {name: value for name, value in ids if value is not None}

    # Its folder, and how its exports are verified.

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "special_ids": self._special_numbers()}

    @classmethod
    def from_folder(cls, model: CausalLanguageModel, folder: Path, config: dict[str, Any]) -> Self:
        if "special_ids" not in config:
            raise InputError(f"{folder} is damaged: its description names no special_ids.")
        decoding = GenerationConfig(**config.get("decoding", {}))
        return cls(model, SpecialIds(**config["special_ids"]), decoding)

    def example_inputs(
        self, signature: str, examples: Sequence[str], batch_size: int | None
    ) -> dict[str, np.ndarray]:
        """Returns the inputs of a signature: each line is a prompt, ids with spaces between."""
        lines = []
        for line in examples:
            if not all(word.isdecimal() for word in line.split()):
                raise InputError(f"An example must be ids with spaces between; got {brief(line)}.")
            lines.append([int(word) for word in line.split()][: self.max_length])
        rows = self._to_rows(lines).astype(np.int32)
        if batch_size:
            more = [(0, 0), (0, self.max_length - rows.shape[1])]
            rows = np.pad(rows, more, constant_values=self.special_ids.pad)
        return {"prompts": rows, **self._scalars(signature)}

    def _best_texts(self, outputs: Mapping[str, np.ndarray]) -> list[str]:
        rows = outputs["ids"].reshape(len(outputs["ids"]), -1, outputs["ids"].shape[-1])[:, 0]
        return [" ".join(str(i) for i in row if i != self.special_ids.pad) for row in rows.tolist()]
