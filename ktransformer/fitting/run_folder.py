"""Trains on files of parallel text and writes the run's folder."""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files import check_new_file, resolve
from ktransformer.fitting.folder import (
    check_removable,
    check_unused,
    lock_checkpoints,
    remove_checkpoints,
)
from ktransformer.fitting.mixture import Corpus, Mixture, add_tags, open_corpora
from ktransformer.fitting.replicas import mirrored_strategy
from ktransformer.fitting.start import FRESH, Fresh, FromRun, Resume
from ktransformer.fitting.training import train
from ktransformer.saving.adapter import save_adapter
from ktransformer.saving.run import check_run_path, is_run, save_run
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
    devices: int = 1,
    beginning: Fresh | FromRun = FRESH,
    resume: bool = False,
    overwrite: bool = False,
    adapter: str | Path | None = None,
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
        devices: How many devices share every batch.
        beginning: Fresh weights and tokenizers, or those of a run.
        resume: Whether to continue the training of which `OUTPUT.checkpoints` keeps the state.
        overwrite: Whether to replace a run at `output` and, without `resume`, the kept state of
            another training.
        adapter: With `lora_rank`, a file to write the adapter to as well.

    Returns:
        The folder that was written, with symbolic links resolved.

    Raises:
        InputError: `output` may not be written, a state is kept that is neither resumed nor
            overwritten, or as `train`.
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
    begins = not (resume or overwrite)
    if begins:
        check_unused(checkpoints)
    elif not resume:
        check_removable(checkpoints)
    scope: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if devices > 1:
        scope = mirrored_strategy(devices).scope()
    max_pairs = config.data.shard_pairs
    training: ParallelText | ParallelFiles | Mixture
    validating = None if validation is None else read_parallel(*validation)
    if isinstance(text, ParallelFiles):
        training = open_files(text, max_pairs=max_pairs)
    elif corpora := [corpus for corpus in text if isinstance(corpus, Corpus)]:
        config = add_tags(config, corpora, beginning.tokenizers)
        training, validating = open_corpora(corpora, max_pairs=max_pairs)
    else:
        training = open_parallel(*text, max_pairs=max_pairs)
    mixing = None if mix is None else open_parallel(*mix, max_pairs=max_pairs)
    saved = False
    try:
        with lock_checkpoints(checkpoints, unused=begins) as locked:
            start = Resume(beginning) if resume else beginning
            with scope:
                run = train(
                    config, training, validating, checkpoints=locked, start=start, mix=mixing
                )
            save_run(run, output, overwrite=overwrite)
            if adapter is not None and run.adapter is not None:
                save_adapter(run.adapter, adapter, overwrite=overwrite)
            saved = True
            remove_checkpoints(checkpoints)
    except (KeyboardInterrupt, InputError, OSError) as error:
        if checkpoints.is_dir() and not (saved or isinstance(error, InputError)):
            _log.info("The training's state is in %s; --resume goes on from it.", checkpoints)
        raise
    return output
