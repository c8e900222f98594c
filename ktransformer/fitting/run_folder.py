"""Trains on files of parallel text and writes the run's folder."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from ktransformer.config import Config, DataConfig
from ktransformer.errors import InputError
from ktransformer.files import check_new_file, resolve
from ktransformer.fitting.folder import (
    STATE,
    check_removable,
    check_unused,
    lock_checkpoints,
    remove_checkpoints,
)
from ktransformer.fitting.mixture import Corpus, Mixture, add_tags, open_corpora
from ktransformer.fitting.processes import agree, data_parallel, join_processes, process_index
from ktransformer.fitting.start import FRESH, Fresh, FromRun, Resume
from ktransformer.fitting.training import add_mix, train_on
from ktransformer.saving.adapter import save_adapter
from ktransformer.saving.run import Run, check_run_path, is_run, save_run
from ktransformer.text import ParallelFiles, ParallelText, open_parallel, read_parallel
from ktransformer.text.corpus import open_files

_log = logging.getLogger(__name__)
Paths = Sequence[str | Path]


def train_run(
    config: Config,
    text: tuple[Paths, Paths] | ParallelFiles | Sequence[Corpus],
    output: str | Path,
    *,
    validation: tuple[Paths, Paths] | None = None,
    mix: tuple[Paths, Paths] | None = None,
    devices: int | None = None,
    shard_weights: bool = False,
    tensor_parallel: int = 1,
    beginning: Fresh | FromRun = FRESH,
    resume: bool = False,
    overwrite: bool = False,
    adapter: str | Path | None = None,
    encode_on: str | None = None,
) -> Path:
    """Trains a run and writes it to `output`.

    Until it is written, the state of the training is kept in the folder `OUTPUT.checkpoints`.

    Args:
        config: The settings.
        text: Files of source and of target text, or of pairs; or corpora, as `read_mixture` reads
            them, whose tags become symbols of the tokenizer.
        output: The run's folder.
        validation: Files of source and of target text to validate on.
        mix: Files of source and of target text to mix in, see `train`.
        devices: How many devices share every batch; None for one, or for all of all processes.
        shard_weights: Whether each device keeps only a part of the weights; on JAX.
        tensor_parallel: So many devices divide the work on each row among them; on JAX.
        beginning: Fresh weights and tokenizers, or those of a run.
        resume: Whether to continue the training of which `OUTPUT.checkpoints` keeps the state.
        overwrite: Whether to replace a run at `output` and, without `resume`, the kept state of
            another training.
        adapter: With `lora_rank`, a file to write the adapter to as well.
        encode_on: The address of a Ray cluster that encodes streamed text, see `train`.

    Returns:
        The folder that was written, with symbolic links resolved.

    Raises:
        InputError: `output` may not be written, a state is kept that is neither resumed nor
            overwritten, or as `train`.
    """
    with join_processes(), contextlib.ExitStack() as stack:
        output, checkpoints = agree(
            lambda: _check_places(Path(output), config, resume, overwrite, adapter)
        )
        corpora = () if isinstance(text, ParallelFiles) else text
        tagged = [corpus for corpus in corpora if isinstance(corpus, Corpus)]
        if tagged:
            config = add_tags(config, tagged, beginning.tokenizers)
        read = functools.partial(_read_texts, text, validation, mix, config.data)
        start = Resume(beginning) if resume else beginning
        scope = _share_devices(devices, shard_weights, tensor_parallel)
        agree(lambda: check_texts(text, validation, mix))
        saved = False
        try:
            locked = agree(
                lambda: stack.enter_context(
                    lock_checkpoints(checkpoints, unused=not (resume or overwrite))
                )
            )
            with scope:
                run = train_on(read, config, checkpoints=locked, start=start, encode_on=encode_on)
            if process_index() == 0:
                save_run(_with_files(run, text), output, overwrite=overwrite)
                if adapter is not None and run.adapter is not None:
                    save_adapter(run.adapter, adapter, overwrite=overwrite)
                saved = True
                remove_checkpoints(checkpoints)
        except (KeyboardInterrupt, InputError, OSError) as error:
            written = (checkpoints / STATE).is_file()
            if written and not (saved or isinstance(error, InputError)):
                _log.info("The training's state is in %s; --resume goes on from it.", checkpoints)
            raise
    return output


def _with_files(run: Run, text: tuple[Paths, Paths] | ParallelFiles | Sequence[Corpus]) -> Run:
    """Returns a run whose origin names the files of its training text, without their folders."""
    if run.origin is None:
        return run
    sides: list[Paths] = []
    for each in [text] if isinstance(text, ParallelFiles) else text:
        files = each.files() if isinstance(each, Corpus) else each
        if isinstance(files, ParallelFiles):
            sides += [files.source_paths, files.target_paths]
        else:
            sides.append(files)
    names = dict.fromkeys(Path(path).name for paths in sides for path in paths)
    data = {"files": ", ".join(names), **run.origin.data}
    return dataclasses.replace(run, origin=dataclasses.replace(run.origin, data=data))


def check_texts(
    text: tuple[Paths, Paths] | ParallelFiles | Sequence[Corpus],
    validation: tuple[Paths, Paths] | None = None,
    mix: tuple[Paths, Paths] | None = None,
) -> None:
    """Checks that the files of a training are there, before anything is written; see `train_run`.

    Raises:
        InputError: One is missing or a folder.
    """
    every = [ParallelFiles(*sides) for sides in (validation, mix) if sides is not None]
    if isinstance(text, ParallelFiles):
        every.append(text)
    elif corpora := [corpus for corpus in text if isinstance(corpus, Corpus)]:
        every += [corpus.files() for corpus in corpora]
        every += [ParallelFiles(c.validation_source, c.validation_target) for c in corpora]
    else:
        every.append(ParallelFiles(*text))
    for files in every:
        files.check()


def _check_places(
    output: Path, config: Config, resume: bool, overwrite: bool, adapter: str | Path | None
) -> tuple[Path, Path]:
    """Returns the run's folder and the training's, after all checks that need no text.

    Raises:
        InputError: See `train_run`.
    """
    output = resolve(output)
    if resume and is_run(output) and not overwrite:
        raise InputError(
            f"{output} already exists: if it is of this training, that is over; if it is not, "
            "add --overwrite."
        )
    check_run_path(output, overwrite=overwrite)
    if adapter is not None and not config.training.lora_rank:
        raise InputError(f"An adapter needs lora_rank above 0; got {adapter} and lora_rank=0.")
    if adapter is not None:
        check_new_file(adapter, overwrite=overwrite)
    checkpoints = resolve(output.with_name(f"{output.name}.checkpoints"))
    if not (resume or overwrite):
        check_unused(checkpoints)
    elif not resume:
        check_removable(checkpoints)
    return output, checkpoints


def _share_devices(
    devices: int | None, shard_weights: bool, tensor_parallel: int
) -> contextlib.AbstractContextManager[Any]:
    """Returns the scope in which devices share every batch."""
    if keras.backend.backend() != "tensorflow":
        return data_parallel(devices, shard_weights=shard_weights, tensor_parallel=tensor_parallel)
    if shard_weights or tensor_parallel > 1:
        option = "--shard-weights" if shard_weights else "--tensor-parallel"
        raise InputError(f"{option} needs JAX: set KERAS_BACKEND=jax in the environment.")
    if devices is None or devices == 1:
        return contextlib.nullcontext()
    from ktransformer.fitting.replicas import mirrored_strategy

    scope: contextlib.AbstractContextManager[Any] = mirrored_strategy(devices).scope()
    return scope


def _read_texts(
    text: tuple[Paths, Paths] | ParallelFiles | Sequence[Corpus],
    validation: tuple[Paths, Paths] | None,
    mix: tuple[Paths, Paths] | None,
    data: DataConfig,
) -> tuple[Mixture, ParallelText | None]:
    """Reads the texts of a training; long ones stay on disk.

    Raises:
        InputError: A file cannot be read, or there is a mixture and `mix`.
    """
    max_pairs = data.shard_pairs
    validating = None if validation is None else read_parallel(*validation)
    if isinstance(text, ParallelFiles):
        mixture = Mixture([open_files(text, max_pairs=max_pairs)])
    elif corpora := [corpus for corpus in text if isinstance(corpus, Corpus)]:
        mixture, validating = open_corpora(corpora, max_pairs=max_pairs)
    else:
        mixture = Mixture([open_parallel(*text, max_pairs=max_pairs)])
    if mix is not None:
        mixture = add_mix(mixture, open_parallel(*mix, max_pairs=max_pairs), data)
    return mixture, validating
