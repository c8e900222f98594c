"""Trains a translation model on JAX: on one device, several, or several processes.

First, where TensorFlow is, texts become ids:

    python -m training.translation.on_jax prepare --source F --target F --output ids.npz

Then, where JAX is and TensorFlow need not be, on all devices that JAX sees:

    KERAS_BACKEND=jax python -m training.translation.on_jax train ids.npz --output RUN

RUN is a run like another: `ktransformer translate`, `evaluate` and `export` take it. Schedule,
loss, optimizer and the mean over the last epochs are the command's; there is no BLEU during
training.
Several processes: README.md.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np

from ktransformer.cli.progress import log_to_stderr
from ktransformer.config import Config, read_settings, split_settings
from ktransformer.errors import InputError
from ktransformer.files import new_file, resolve
from ktransformer.fitting import (
    check_removable,
    check_unused,
    count_devices,
    fit_model,
    lock_checkpoints,
    open_state,
    remove_checkpoints,
    remove_state,
)
from ktransformer.fitting.defaults import choose_batch_tokens, choose_vocabulary_size
from ktransformer.models import PRESETS
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.saving.run import Run, check_run_path, make_model, save_run
from ktransformer.text import TokenBatches
from ktransformer.text.special_ids import DEFAULT_SPECIAL_IDS, SpecialIds
from training.programs import exit_status

SIDES = ("source", "target")


def main() -> int:
    """Runs a step; returns the exit status."""
    keep_freed_memory()
    options = parser().parse_args()
    log_to_stderr()
    return exit_status("on_jax", lambda: options.step(options))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    steps = result.add_subparsers(required=True, metavar="STEP")
    step = steps.add_parser("prepare", help="write the ids of parallel text, on TensorFlow")
    step.set_defaults(step=prepare)
    for name in ("source", "target", "validation-source", "validation-target"):
        required = not name.startswith("validation")
        step.add_argument(f"--{name}", nargs="+", action="extend", required=required, metavar="F")
    step.add_argument("--output", required=True, metavar="IDS", help="the .npz file to write")
    step.add_argument("--preset", default="tiny", choices=sorted(PRESETS))
    step.add_argument("--config", metavar="FILE", help="settings in YAML, over the preset")
    step.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    step = steps.add_parser("train", help="train from ids, on JAX")
    step.set_defaults(step=train)
    step.add_argument("ids", metavar="IDS", help="what `prepare` wrote")
    step.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    step.add_argument("--overwrite", action="store_true", help="replace RUN if it is there")
    step.add_argument("--resume", action="store_true", help="go on with a training that was cut")
    return result


def prepare(options: argparse.Namespace) -> None:
    """Trains the tokenizer and writes the ids, the tokenizer and the configuration."""
    from ktransformer.text import Tokenizer, read_parallel

    settings = read_settings(options.config) if options.config else {}
    if bool(options.validation_source) != bool(options.validation_target):
        raise InputError("--validation-source and --validation-target go together; got one.")
    changes = split_settings(options.set)
    config = Config().replace({**PRESETS[options.preset], **settings, **changes})
    if config.data.subword_alpha is not None or config.training.tensorboard is not None:
        raise InputError("subword_alpha and tensorboard need TensorFlow in the training.")
    if not config.data.shared_vocabulary:
        raise InputError("shared_vocabulary=false needs `ktransformer train`; got it here.")
    texts = {"train": read_parallel(options.source, options.target)}
    if options.validation_source:
        texts["validation"] = read_parallel(options.validation_source, options.validation_target)
    lines = [*texts["train"].sources, *texts["train"].targets]
    characters = collections.Counter(itertools.chain.from_iterable(lines))
    size = choose_vocabulary_size(config.data, characters.total(), len(characters))
    tokenizer = Tokenizer.train(
        lines,
        size,
        split_digits=config.data.split_digits,
        character_coverage=config.data.character_coverage,
    )
    arrays = {
        "tokenizer": np.frombuffer(tokenizer.model, "uint8"),
        "vocabulary_size": np.array(tokenizer.vocabulary_size),
    }
    for name, text in texts.items():
        for side, lines in zip(SIDES, (text.sources, text.targets), strict=True):
            ids = tokenizer.encode_lines(lines)
            arrays[f"{name}_{side}"] = np.concatenate(ids).astype("int32")
            arrays[f"{name}_{side}_lengths"] = np.array([len(line) for line in ids], "int32")
    longer = np.maximum(arrays["train_source_lengths"], arrays["train_target_lengths"])
    tokens = int(longer[longer <= config.model.max_length].sum())
    batch_tokens = choose_batch_tokens(config.data, tokens, config.model.max_length)
    config = config.replace({"vocabulary_size": size, "batch_tokens": batch_tokens})
    arrays["config"] = np.frombuffer(json.dumps(config.to_dict()).encode(), "uint8")
    with new_file(options.output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


@dataclasses.dataclass(frozen=True)
class StoredTokenizer:
    """A tokenizer that is only passed on: what `save_run` asks of one, without TensorFlow."""

    model: bytes
    vocabulary_size: int
    special_ids: ClassVar[SpecialIds] = DEFAULT_SPECIAL_IDS  # Those of a `Tokenizer.train`.

    def save(self, path: Path) -> None:
        """Writes the SentencePiece model."""
        path.write_bytes(self.model)


def train(options: argparse.Namespace) -> None:
    """Trains from ids, on all devices of all processes."""
    if keras.backend.backend() != "jax":
        raise InputError("Set the environment variable KERAS_BACKEND=jax to train on JAX.")
    output = resolve(options.output)
    check_run_path(output, overwrite=options.overwrite)
    kept = resolve(output.with_name(f"{output.name}.checkpoints"))
    if not (options.resume or options.overwrite):
        check_unused(kept)
    elif not options.resume:
        check_removable(kept)
    # Joining waits for all: only then does the first process make what the others may see.
    index, count = join_processes()
    if options.resume and count > 1:
        raise InputError("--resume works with one process alone.")
    config, arrays = read_ids(options.ids)
    keras.utils.set_random_seed(config.training.seed)
    batches = make_batches(config, arrays, "train", share=(index, count))
    validation = None
    if "validation_source" in arrays:
        validation = make_batches(config, arrays, "validation", share=(index, count))
    tokenizer = StoredTokenizer(arrays["tokenizer"].tobytes(), int(arrays["vocabulary_size"]))
    with contextlib.ExitStack() as stack:
        # Every process has all weights and runs all of this; what the first one writes stays.
        other = stack.enter_context(tempfile.TemporaryDirectory())
        checkpoints = kept if index == 0 else Path(other, "checkpoints")
        stack.enter_context(lock_checkpoints(checkpoints))
        model = make_model(config, tokenizer.vocabulary_size)
        if not options.resume:
            remove_state(checkpoints)
        fitted = fit_model(
            model,
            config.training,
            batches,
            validation,
            state=open_state(checkpoints, config, {"ids": digest(arrays)}, resume=options.resume),
        )
        if index == 0:
            config = dataclasses.replace(config, training=fitted.training)
            run = Run(config, tokenizer, fitted.model, fitted.history)
            save_run(run, output, overwrite=options.overwrite)
            remove_checkpoints(checkpoints)


def join_processes() -> tuple[int, int]:
    """Joins the other processes, if there are any, and lets all devices share every batch.

    Returns:
        Which process this is, from 0, and how many there are.
    """
    import jax

    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
        keras.distribution.initialize()
    if jax.device_count() > 1:
        # Each process feeds its own rows.
        data_parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(data_parallel)
    return jax.process_index(), jax.process_count()


def make_batches(
    config: Config, arrays: dict[str, np.ndarray], name: str, *, share: tuple[int, int]
) -> TokenBatches:
    """Makes the batches that `ktransformer train` makes, or one process's rows of them."""
    sides = (
        np.split(arrays[f"{name}_{side}"], np.cumsum(arrays[f"{name}_{side}_lengths"])[:-1])
        for side in SIDES
    )
    return TokenBatches(
        *sides,
        batch_tokens=config.data.batch_tokens,
        max_length=config.model.max_length,
        bucket_step=config.data.bucket_step,
        shuffle=name == "train",
        seed=config.training.seed,
        copies=config.training.copies,
        row_multiple=count_devices(),
        share=share,
    )


def read_ids(path: str) -> tuple[Config, dict[str, np.ndarray]]:
    """Reads what `prepare` wrote.

    Raises:
        InputError: It is another file.
    """
    try:
        with np.load(path) as file:
            arrays: dict[str, Any] = dict(file)
        return Config.from_dict(json.loads(arrays["config"].tobytes())), arrays
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a file that `prepare` wrote.") from error


def digest(arrays: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 of all ids."""
    result = hashlib.sha256()
    for name in sorted(arrays.keys() - {"config"}):
        result.update(name.encode() + arrays[name].tobytes())
    return result.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
