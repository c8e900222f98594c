"""A run: the folder of a trained `Transformer`, with the configuration of its training."""

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransformer.config import Config
from ktransformer.drawing import can_draw, draw_curves, missing_sentence
from ktransformer.errors import InputError, first_line
from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.models import Transformer
from ktransformer.saving.card import Origin, write_card
from ktransformer.saving.folder import (
    DESCRIPTION,
    MODEL,
    OLD_DESCRIPTION,
    open_folder,
    write_description,
)
from ktransformer.saving.weights import check_weights
from ktransformer.text.special_ids import PAD_ID
from ktransformer.text.stored_tokenizer import StoredTokenizer

if TYPE_CHECKING:
    from ktransformer.saving.adapter import Adapter
    from ktransformer.text import Tokenizer

_log = logging.getLogger(__name__)
RUN_KIND = "translator"
TOKENIZER, TARGET_TOKENIZER = "tokenizer.model", "target_tokenizer.model"
# Settings of a model that do not change the translations of a trained one.
_FOR_TRAINING = {"dropout", "attention_dropout", "hidden_dropout", "remat"}
CARD, CURVES = "card.md", "curves.png"
_FILES = (
    *(r"(model|run)\.json", r"(target_)?tokenizer\.model", r"model\.keras"),
    *(r"card\.md", r"curves\.png"),
)


class _RunFolder(FolderKind):
    """The files of a run, in this format or an older one."""

    def owns(self, folder: Path) -> bool:
        return is_run(folder)


_KIND = _RunFolder("a run folder", _FILES)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model with everything that is needed to use it.

    Attributes:
        config: The configuration of its training.
        tokenizer: The tokenizer of the source, and of the target without a `target_tokenizer`.
        model: The model with its weights.
        history: The metrics of each epoch, `{"loss": [...], "val_loss": [...], ...}`.
        target_tokenizer: The tokenizer of the target, if it is another.
        adapter: With `lora_rank`, what the training learned, which the model's weights contain;
            `save_adapter` writes it, `save_run` does not.
        origin: How it was trained, for the card; None where that is not known, as of a run that
            was opened.
    """

    config: Config
    tokenizer: "Tokenizer"
    model: Transformer
    history: dict[str, list[float]]
    target_tokenizer: "Tokenizer | None" = None
    adapter: "Adapter | None" = None
    origin: Origin | None = None


def make_model(
    config: Config,
    vocabulary_size: int,
    pad_id: int = PAD_ID,
    *,
    source_vocabulary_size: int | None = None,
) -> Transformer:
    """Creates the model of a configuration, built, with fresh weights.

    Args:
        config: The configuration.
        vocabulary_size: The number of the tokenizer's pieces, of the target's where there are two.
        pad_id: The tokenizer's `special_ids.pad`.
        source_vocabulary_size: The number of the pieces of the source's own tokenizer; None for
            one vocabulary of both sides.

    Raises:
        InputError: The sizes do not go together.
    """
    try:
        model = Transformer(
            vocabulary_size,
            source_vocabulary_size=source_vocabulary_size,
            pad_id=pad_id,
            name="transformer",
            **dataclasses.asdict(config.model),
        )
        model.build()
    except ValueError as error:
        raise InputError(str(error)) from error
    return model


def save_run(run: Run, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes a run's folder, whole or not at all; `ktransformer.tasks.load` opens it, too.

    The folder also gets a model card, `card.md`, and, where a metric has several epochs and
    Matplotlib is installed, `curves.png`; nothing reads these two.

    Args:
        run: The run.
        path: The folder to make.
        overwrite: Whether a folder that is already there may be replaced.

    Raises:
        InputError: See `check_run_path`; or the model is not built, holds weights that are
            infinite or NaN, or is another one than the configuration describes.
    """
    check_weights(run.model)
    config = run.config.to_dict()
    check_model_of_run(run.model.get_config(), config, run.tokenizer, run.target_tokenizer)
    check_run_path(path, overwrite=overwrite)
    tokenizers = {TOKENIZER: run.tokenizer}
    if run.target_tokenizer is not None:
        tokenizers[TARGET_TOKENIZER] = run.target_tokenizer
    with new_folder(path, overwrite=overwrite, kind=_KIND) as folder:
        for name, tokenizer in tokenizers.items():
            tokenizer.save(folder / name)
        run.model.save(folder / MODEL)
        write_description(folder, RUN_KIND, tuple(tokenizers), config=config, history=run.history)
        (folder / CARD).write_text(
            write_card(run, Path(path).name), encoding="utf-8", errors="backslashreplace"
        )
        _write_curves(run.history, folder / CURVES)


def _write_curves(history: dict[str, list[float]], path: Path) -> None:
    if len(history.get("loss", ())) < 2:
        return
    if not can_draw():
        _log.info("%s", missing_sentence(CURVES))
        return
    try:
        picture = draw_curves(history)
    except Exception as error:  # Of Matplotlib: the run is worth more than its picture.
        _log.warning("%s is not drawn: %s", CURVES, first_line(error))
        return
    path.write_bytes(picture)


def check_run_path(path: str | Path, *, overwrite: bool = False) -> None:
    """Checks that a run may be written at `path`, before any work is done for it.

    Raises:
        InputError: `path` is a file, or a folder that is there while `overwrite` is False, or a
            folder that holds other files than a run's.
    """
    check_new_folder(path, overwrite=overwrite, kind=_KIND)


def is_run(path: str | Path) -> bool:
    """Tells whether a path looks like a run's folder, of any version, a damaged one included."""
    if not any((Path(path) / name).is_file() for name in (DESCRIPTION, OLD_DESCRIPTION)):
        return False
    try:
        return open_folder(path, check=False).kind == RUN_KIND
    except InputError:
        return True


def load_run(path: str | Path, *, check: bool = True, adapter: str | Path | None = None) -> Run:
    """Reads a run's folder.

    Args:
        path: The folder.
        check: Whether the files are compared with the checksums in the folder's description.
        adapter: A file of `save_adapter`, to merge into the weights; None for none.

    Raises:
        InputError: The folder or one of its files is missing, damaged or another run's, it was
            written by a newer version, or it holds no run: another kind of model, or one without
            the configuration of a training; or the adapter is of other weights.
    """
    from ktransformer.saving.adapter import merge_adapter

    folder = open_folder(path, check=check)
    if folder.kind != RUN_KIND or "model" not in folder.config:
        raise InputError(
            f"{path} is not a run folder: it holds no {RUN_KIND} with the configuration of its "
            "training."
        )
    folder.check_files((TOKENIZER,), (TARGET_TOKENIZER,), check=check)
    config = Config.from_dict(folder.config)
    target_path = folder.path / TARGET_TOKENIZER
    tokenizer = _load_tokenizer(folder.path / TOKENIZER)
    target_tokenizer = _load_tokenizer(target_path) if target_path.is_file() else None
    model = folder.load_model(
        lambda found: check_model_of_run(found, folder.config, tokenizer, target_tokenizer)
    )
    if not isinstance(model, Transformer):
        raise InputError(f"{folder.path / MODEL} is no Transformer but a {type(model).__name__}.")
    if adapter is not None:
        merge_adapter(model, adapter)
    return Run(config, tokenizer, model, folder.history, target_tokenizer)


def _load_tokenizer(path: Path) -> Any:
    """Reads a tokenizer; on JAX one that is only passed on, for which TensorFlow is not needed."""
    if keras.backend.backend() != "tensorflow":
        return StoredTokenizer.load(path)
    from ktransformer.text import Tokenizer

    return Tokenizer.load(path)


def check_model_of_run(
    model_config: dict[str, Any],
    config: dict[str, Any],
    tokenizer: "Tokenizer | None" = None,
    target_tokenizer: "Tokenizer | None" = None,
) -> None:
    """Checks that a model is the one that a run's configuration describes.

    A subclass may leave out settings that it does not have.

    Args:
        model_config: The model's configuration.
        config: The run's, as `Config.to_dict` returns it; one without the section `model` is not
            compared.
        tokenizer: The run's; None for any.
        target_tokenizer: The run's tokenizer of the target, if it is another.

    Raises:
        InputError: They do not belong together.
    """
    expected: dict[str, Any] = {}
    if "model" in config:
        settings = Config.from_dict(config).model
        expected |= dataclasses.asdict(settings)
        expected["num_decoder_layers"] = settings.num_decoder_layers or settings.num_layers
    if tokenizer is not None:
        shared = Config.from_dict(config).data.shared_vocabulary
        target = tokenizer if shared or target_tokenizer is None else target_tokenizer
        expected["vocabulary_size"] = target.vocabulary_size
        expected["source_vocabulary_size"] = None if shared else tokenizer.vocabulary_size
        expected["pad_id"] = tokenizer.special_ids.pad
    for name in sorted(expected.keys() - _FOR_TRAINING):
        value = expected[name]
        other = _plain(model_config.get(name, value))
        if other != value or isinstance(other, bool) != isinstance(value, bool):
            raise InputError(
                f"The model has {name}={other!r}, but its run {name}={value!r}: they do not "
                "belong together."
            )


def _plain(value: Any) -> Any:
    """Returns a setting as a run's description has it: the name of a dtype policy."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"].get("name", value)
    name = getattr(value, "name", value)
    return name.rpartition("_from_")[2] if isinstance(name, str) else name
