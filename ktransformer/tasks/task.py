"""The base class of every kind of model: from its user's data to its user's answer."""

import abc
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from ktransformer.config import CompilationConfig
from ktransformer.errors import InputError
from ktransformer.runtime.backend import backend_message
from ktransformer.tasks.description import Description
from ktransformer.tasks.registry import with_article
from ktransformer.text import BaseTokenizer


class LiteSignature(NamedTuple):
    """One signature of a .tflite.

    Attributes:
        function: A `tf.function` or plain function of named tensors that returns named tensors.
        inputs: Its inputs, by name.
        probe: Inputs to try the converted signature on, by name; they may have other shapes than
            `inputs` where these are open.
        takes_text: Whether the tokenizer's LiteRT form runs in it.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: dict[str, tf.TensorSpec]
    probe: dict[str, tf.Tensor]
    takes_text: bool = False


class SignatureCheck(NamedTuple):
    """How `verify` compares one signature of an export with the model.

    Attributes:
        signature: The signature's name in the export.
        function: The model's own way to the same outputs: it takes the tensors of `prepare` by
            name, and returns the outputs by name.
        prepare: Turns a batch of examples (see `Task.read_examples`) into the named inputs,
            arrays `[B, ...]`, or `[]` for a scalar such as a seed.
        optional: Outputs that the export may lack.
        max_examples: Only so many examples are compared, the first ones; None for all. For a
            signature that takes much longer than the others.
        best_texts: Turns a batch of outputs into the best text of each example, for BLEU against
            a reference; None where the outputs are no texts.
        n_best: Whether the choices are lists `[B, K]` of which each entry counts. Otherwise an
            example agrees only if all of its choices do.
        regroup: Turns outputs with other rows into outputs `[B, ...]`; None where they are.
    """

    signature: str
    function: Callable[..., Mapping[str, tf.Tensor]]
    prepare: Callable[[Sequence[Any]], dict[str, np.ndarray]]
    optional: frozenset[str] = frozenset()
    max_examples: int | None = None
    best_texts: Callable[[Mapping[str, np.ndarray]], list[str]] | None = None
    n_best: bool = False
    regroup: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None


class Task(tf.Module, abc.ABC):
    """A model with its pre- and post-processing, ready to save, export, verify and serve.

    A kind of model is one subclass, registered by `register_task`, in a file of its own. It says
    which model it wraps, which files lie beside the model in its folder, which signatures its
    exports have and how they are described, and how they are verified. `ktransformer.tasks.load`,
    `export_saved_model`, `export_lite`, `SavedModel`, `LiteModel` and the commands `export` and
    `verify` then work on it. The module that registers it must be imported before its folders or
    exports are opened. `TextTask` is the common part of the kinds that read text, and `SearchTask`
    that of the kinds that write it.

    A subclass has to define the class attributes without a default below, and
    `saved_model_signatures`, `lite_signature`, `describe` and `with_model`; for a folder with more
    than the model also `write_files` and `from_folder`; for `verify` also `signature_checks`.

    Args:
        model: The Keras model, built.
        tokenizer: Its tokenizer; None where no text comes in.
        name: Name of the module.

    Raises:
        InputError: Keras is not set to TensorFlow.

    Attributes:
        kind: The name of the kind, in words, as folders and exports store it.
        model_class: The class of the model. Where a folder does not say its kind, the model's
            class does.
        description_class: The metadata of an export; its `kind` is the same.
        SAVED_MODEL_ON_REQUEST: The signatures that a SavedModel has only if they are asked for.
        LITE_SIGNATURES: The names of the signatures that a .tflite can have, in their order.
        LITE_ON_REQUEST: Those of them that a .tflite has only if they are asked for.
        RAGGED: The signatures whose outputs are not all `[B, ...]`. A .tflite with a fixed batch
            size has none of them, and a SavedModel does not join their requests.
        FILES: The files that `write_files` writes beside the model, by name.
        OPTIONAL_FILES: Files that only some tasks of the kind write; see `files`.
        SETTINGS: The names of the arguments that `with_settings` takes.
        RANKED_BY: The outputs that are choices (texts, ids, classes), each with the name of the
            number that ranks it. Choices are compared by content, so that equally good ones may
            swap places; of the other outputs, floats are compared within a tolerance, and
            everything else must be equal. Choices are `[B]` or `[B, K]`, or with one more axis
            for padded ids.
        ARGMAX_OF: The outputs that are places of the greatest number of another one along its last
            axis, each with the name of that one: of two numbers that are nearly equal, either may
            be chosen.
        IDENTITY: The fields of the description in which an export must equal the model that it is
            verified against.
    """

    kind: ClassVar[str]
    model_class: ClassVar[type[keras.Model]]
    description_class: ClassVar[type[Description]]
    SAVED_MODEL_ON_REQUEST: ClassVar[frozenset[str]] = frozenset()
    LITE_SIGNATURES: ClassVar[tuple[str, ...]]
    LITE_ON_REQUEST: ClassVar[frozenset[str]] = frozenset()
    RAGGED: ClassVar[frozenset[str]] = frozenset()
    FILES: ClassVar[tuple[str, ...]] = ()
    OPTIONAL_FILES: ClassVar[tuple[str, ...]] = ()
    SETTINGS: ClassVar[tuple[str, ...]] = ()
    RANKED_BY: ClassVar[Mapping[str, str]] = {}
    ARGMAX_OF: ClassVar[Mapping[str, str]] = {}
    IDENTITY: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, model: keras.Model, tokenizer: BaseTokenizer | None = None, *, name: str
    ) -> None:
        super().__init__(name=name)
        if keras.backend.backend() != "tensorflow":
            raise InputError(backend_message(f"a {type(self).__name__}"))
        self.model = model
        self.tokenizer = tokenizer

    @property
    def tokenizers(self) -> tuple[BaseTokenizer, ...]:
        """Its different tokenizers: none, one, or those of the source and the target."""
        return () if self.tokenizer is None else (self.tokenizer,)

    @property
    def pad_id(self) -> int:
        """The padding of outputs that are ids."""
        return getattr(self.model, "pad_id", 0)

    @classmethod
    def from_preset(
        cls, preset: str | Path, *, tokenizer: BaseTokenizer | None = None, **settings: Any
    ) -> Self:
        """Opens a trained task, or creates one with random weights.

        Args:
            preset: The path of a folder of a trained or published model; `hf://OWNER/NAME`, a
                published model on a hub, which needs the extra `hub`; or one of the model's own
                presets, such as `tiny`, for random weights. A folder of that name is `./tiny`.
            tokenizer: With the name of a preset: the task's tokenizer.
            **settings: Settings of the kind, such as `beam_size`; with the name of a preset,
                settings of the model, such as `max_length`.

        Returns:
            A task of this class.

        Raises:
            InputError: There is no such folder, it holds another kind of model, the hub cannot be
                reached, or `tokenizer` is missing or superfluous.

        Example:
            ```python
            Translator.from_preset("runs/en-de", beam_size=1)
            Translator.from_preset("tiny", tokenizer=Tokenizer.train(texts, 8000))
            ```
        """
        presets = getattr(getattr(cls, "model_class", None), "presets", {})
        if preset in presets:
            model_class: Any = cls.model_class  # A kind's own constructors name what they take.
            if "tokenizer" not in inspect.signature(cls).parameters:
                raise InputError(
                    f"{cls.__name__} has no presets: make it of "
                    f"{model_class.__name__}.from_preset({preset!r}, ...)."
                )
            if tokenizer is None:
                raise InputError(
                    f"The preset {preset!r} has random weights and no tokenizer: pass tokenizer=, "
                    f"or make the {cls.__name__} of {model_class.__name__}.from_preset(...)."
                )
            task_class: Any = cls
            try:
                model = model_class.from_preset(preset, tokenizer.vocabulary_size, **settings)
            except TypeError as error:  # A setting that the model lacks, or that is missing.
                raise InputError(f"The preset {preset!r}: {error}.") from error
            made: Self = task_class(model, tokenizer)
            return made
        if tokenizer is not None:
            raise InputError(f"tokenizer goes with the name of a preset; got {preset}.")
        # Opening lies above the tasks; the package's own `load` is the way for everyone.
        task = importlib.import_module("ktransformer").load(preset, **settings)
        if not isinstance(task, cls):
            kind = getattr(task, "kind", type(task).__name__)
            raise InputError(f"{preset} is of the kind {kind}, not {cls.__name__}.")
        return task

    # The signatures of its exports.

    @abc.abstractmethod
    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        """Returns the signatures of a SavedModel, by name.

        Each is a `tf.function` with an input signature (a `graph_method`) that returns named
        tensors. One is called `serving_default`. Inputs `[B]` of strings are texts if the task has
        a tokenizer; scalars, such as a seed, may stand beside them.
        """

    def signatures_on_request(self) -> frozenset[str]:
        """Returns the signatures that a SavedModel has only if they are asked for."""
        return self.SAVED_MODEL_ON_REQUEST

    @abc.abstractmethod
    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        """Returns one signature of a .tflite.

        Args:
            name: One of `LITE_SIGNATURES`.
            batch_size: The number of inputs at once, for which all shapes of the inputs must be
                fixed; None for any number.

        Raises:
            InputError: This model, or its batch size, has no LiteRT form.
        """

    def probe(self, signature: str) -> Mapping[str, tf.Tensor] | None:
        """Returns inputs to try a signature of a SavedModel on, by name; None where there are none.

        By default they are those of the .tflite's signature of that name, where there is one.

        Args:
            signature: One of `saved_model_signatures`.
        """
        if signature not in self.LITE_SIGNATURES:
            return None
        try:
            return self.lite_signature(signature, None).probe
        except InputError:  # The model has no LiteRT form.
            return None

    @abc.abstractmethod
    def describe(self, signatures: Sequence[str], **others: Any) -> Description:
        """Returns the description of an export, a `description_class`.

        Args:
            signatures: The names of the signatures that the export has.
            **others: Fields that only the export knows, such as `quantization`, and labels.
        """

    def check_before_export(self) -> None:
        """Checks assumptions of an export that its graph does not show; none by default.

        Raises:
            InputError: The export would do something else than the model.
        """

    @property
    def texts_are_independent(self) -> bool:
        """Whether a text's outputs do not depend on the other texts of its batch."""
        return True

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns more choices than a signature does, best first, to check a conversion.

        Where a converted model chooses something else than the model, rounding may be the reason:
        the choice must then be among these, and as good.

        Args:
            signature: The name of a signature whose outputs are in `RANKED_BY`.
            inputs: Its inputs, by name.

        Returns:
            The choices and their number, `[B, N, ...]`; nothing where no more can be had, as by
            default.
        """
        return {}

    def by_choice(self, signature: str, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns outputs in which every choice has a number, to check a conversion.

        Args:
            signature: The name of a signature.
            outputs: Its outputs, which are returned as they are by default.
        """
        return dict(outputs)

    # Its settings.

    @abc.abstractmethod
    def with_model(self, model: keras.Model) -> Self:
        """Returns the same task around another model of the same kind."""

    @property
    def settings(self) -> dict[str, Any]:
        """The values of `SETTINGS` that are stored with the model, as JSON has them."""
        return {}

    def with_settings(self, **settings: Any) -> Self:
        """Returns the same task with other settings.

        Args:
            **settings: Values for some of `SETTINGS`; the others stay.

        Raises:
            InputError: A value is outside its range.
            TypeError: A setting is not one of `SETTINGS`.
        """
        if settings:
            raise TypeError(f"A {type(self).__name__} has no settings; got {', '.join(settings)}.")
        return self

    compilation: CompilationConfig | None = None
    COMPILED: ClassVar[frozenset[str]] = frozenset()
    """The signatures whose searches `with_compilation` compiles."""

    @property
    def search_variables(self) -> tuple[tf.Variable, ...]:
        """Variables beside the model's that a search reads."""
        return ()

    def search_values(self) -> tuple[tf.Tensor, ...]:
        """Computes what `search_variables` hold from the model's weights."""
        return ()

    def with_compilation(self, compilation: CompilationConfig) -> Self:
        """Returns the same task with searches that XLA compiles in a few shapes.

        Raises:
            InputError: It has no search that XLA compiles.
        """
        raise InputError(
            f"Only a translator's searches are compiled, not {with_article(self.kind)}."
        )

    def in_float32(self) -> Self:
        """Returns the task with a model that computes in float32, for one of mixed precision."""
        if self.model.compute_dtype == "float32":
            return self
        wide = type(self.model).from_config({**self.model.get_config(), "dtype": "float32"})
        wide.build()
        wide.set_weights(self.model.get_weights())
        return self.with_model(wide)

    # Its folder.

    @property
    def config(self) -> dict[str, Any]:
        """The JSON object that the folder's description stores, as `from_folder` reads it."""
        return self.settings

    @property
    def files(self) -> tuple[str, ...]:
        """The files that `write_files` writes: `FILES`, and some of `OPTIONAL_FILES`."""
        return self.FILES

    def write_files(self, folder: Path) -> None:
        """Writes `files` into a folder in which the model lies; nothing by default.

        Args:
            folder: An existing folder. Its description will hold a checksum of each file.
        """

    @classmethod
    def check_model_config(cls, model_config: dict[str, Any], config: dict[str, Any]) -> None:
        """Checks a model's configuration before anything of the model is built.

        Args:
            model_config: The result of the model's `get_config`, as JSON.
            config: The folder's configuration, `{}` where it has none.

        Raises:
            InputError: The model is another one than the folder describes.
        """

    @classmethod
    def from_folder(cls, model: keras.Model, folder: Path, config: dict[str, Any]) -> Self:
        """Opens the task of a folder.

        Args:
            model: The folder's model, a `model_class`.
            folder: The folder. All `FILES` are there, and are those that were written.
            config: The stored `config`; `{}` for a folder that stores none.

        Raises:
            InputError: A file is damaged, or does not go with the model.
        """
        return cls(model, **config)

    # How its exports are verified.

    @classmethod
    def read_examples(cls, path: str | Path) -> list[Any]:
        """Reads the examples on which exports are compared with their model; none by default.

        Args:
            path: The path that a user names, such as a file of text with an example a line.

        Returns:
            The examples; strings are compared in batches of like length.

        Raises:
            InputError: There is no such file, or nothing in it.
        """
        raise InputError(f"A {cls.__name__} cannot be verified: it has no examples.")

    @classmethod
    def settings_of(cls, export: Any) -> dict[str, Any]:
        """Returns the settings that an export is fixed to, for `with_settings`; none by default.

        Args:
            export: The export's description, a `description_class`.
        """
        return {}

    def signature_checks(self, export: Description, form: str) -> list[SignatureCheck]:
        """Returns how each signature of an export is compared with this task.

        Args:
            export: The export's description: only its `signatures` are returned, and inputs are
                prepared for its `batch_size`.
            form: `SavedModel`, `tflite`, `CTranslate2`, ...

        Returns:
            A check for each signature that can be compared, `serving_default` first.
        """
        return []


def check_type(name: str, value: Any, kind: type) -> None:
    """Checks the class of an argument, which may be swapped with another.

    Raises:
        TypeError: It is no instance of `kind`.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be of type {kind.__name__}; got one of type {type(value).__name__}."
        )


def check_task(task: Any) -> None:
    """Checks that a task is exported or saved, not the model alone.

    Raises:
        TypeError: It is no `Task`.
    """
    if not isinstance(task, Task):
        raise TypeError(
            f"task must be a Task, such as a Translator; got one of type {type(task).__name__}."
        )


def check_padding(model: Any, tokenizer: Any) -> None:
    """Checks that a model and its tokenizer, or its `special_ids`, have the same padding.

    Raises:
        InputError: They have not.
    """
    if model.pad_id != tokenizer.special_ids.pad:
        raise InputError(
            f"The model's pad_id must be {tokenizer.special_ids.pad}, the tokenizer's padding; "
            f"got pad_id={model.pad_id!r}."
        )


def check_pieces(tokenizer: BaseTokenizer, vocabulary_size: int, name: str = "tokenizer") -> None:
    """Checks that a tokenizer has as many pieces as its model has ids; `name` is for the message.

    Raises:
        InputError: It has not.
    """
    if tokenizer.vocabulary_size != vocabulary_size:
        raise InputError(
            f"The {name} has {tokenizer.vocabulary_size} pieces, but the model {vocabulary_size}."
        )
