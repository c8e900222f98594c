"""`ktransformer train`: trains a model on parallel text."""

import argparse
import dataclasses
import functools
import importlib
import logging
from pathlib import Path
from typing import Any

from ktransformer.cli.clean import add_text, open_text
from ktransformer.cli.options import positive
from ktransformer.config import CHOICES, Config, read_settings, split_settings
from ktransformer.errors import InputError, did_you_mean
from ktransformer.runtime.backend import chosen_backend
from ktransformer.runtime.memory_errors import memory_errors
from ktransformer.runtime.noise import without_packages

HELP = "train a model on parallel text"
EXAMPLE = """\
ktransformer train --source train.en --target train.de \\
  --validation-source valid.en --validation-target valid.de --output runs/en-de
ktransformer train --from runs/en-de --pairs own.tsv --set epochs=2 --output runs/tuned"""
_log = logging.getLogger(__name__)

_AFTER_THE_SETTINGS = """

Of these, null means for vocabulary_size, batch_tokens, epochs, optimizer, learning_rate,
warmup_steps, schedule and average_checkpoints, and for source_vocabulary_size where
shared_vocabulary is false: chosen from the text's size; the training logs its choice. The rule
stands in ktransformer/fitting/defaults.py. With --from, epochs, optimizer, schedule and
learning_rate have other defaults: 5, adam, cosine and 0.001 (0.004 with lora_rank), less for a
model wider than 128.

A text of more than shard_pairs pairs is encoded into RUN.checkpoints and streamed from there, in
memory that does not grow with it. The tokenizer is then trained on a sample of shard_pairs pairs,
and subword_alpha is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.epilog = _describe_settings()
    text_group = parser.add_argument_group("text")
    add_text(text_group)
    for name, text in (
        ("--validation-source", "source text to validate on"),
        ("--validation-target", "its translation"),
        ("--mix-source", "source text to mix in, mix_share of every epoch's batches"),
        ("--mix-target", "its translation"),
    ):
        text_group.add_argument(name, nargs="+", action="extend", metavar="FILE", help=text)
    text_group.add_argument(
        "--data",
        metavar="FILE",
        help="instead of these, several corpora in YAML, each with a weight and a tag; see "
        "docs/mixtures.md",
    )
    text_group.add_argument(
        "--encode-ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="encode a text of more than shard_pairs pairs on a Ray cluster: auto or HOST:PORT for "
        "one that runs, alone for one of this machine; with --ray, on that of the training",
    )
    run_group = parser.add_argument_group("run")
    run_group.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    run_group.add_argument(
        "--from",
        dest="base",
        metavar="RUN",
        help="fine-tune that RUN: its weights, tokenizers and settings of model, tokenizer and "
        "decoding, with a fresh schedule (default: train from nothing)",
    )
    run_group.add_argument(
        "--adapter",
        metavar="FILE",
        help="with --from and lora_rank: a file for the adapter alone, beside the whole RUN",
    )
    run_group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what is to be written, and the kept state of a training of it that was cut "
        "(default: refuse)",
    )
    run_group.add_argument(
        "--resume",
        action="store_true",
        help="continue a training of the same RUN, data and settings that was cut; it ends as if "
        "it had not been, to the bit (default: refuse if there is one)",
    )
    devices_group = parser.add_argument_group("devices")
    devices_group.add_argument(
        "--devices",
        type=positive,
        metavar="N",
        help="devices that share every batch: the first N GPUs, or, where there is none, N parts "
        "of the CPU, for a trial, on TensorFlow at most as many as it has cores, or 2 (default: "
        "1, or all devices of all processes of a training on JAX)",
    )
    devices_group.add_argument(
        "--shard-weights",
        action="store_true",
        help="on JAX: each of the devices keeps a part of the weights and of the optimizer, for "
        "a model that no device has room for (default: all of them)",
    )
    devices_group.add_argument(
        "--tensor-parallel",
        type=positive,
        default=1,
        metavar="N",
        help="on JAX: groups of N of the devices divide the work on each row of a batch, with a "
        "part of the weights on each device",
    )
    devices_group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="on JAX: train in workers of the Ray cluster at that address, auto for the one that "
        "runs here, local to start one; lost workers start again from the last state",
    )
    devices_group.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="with --ray: the number of workers, each with a GPU, or a CPU where the cluster has "
        "too few GPUs (default: 1)",
    )
    settings_group = parser.add_argument_group("settings")
    settings_group.add_argument(
        "--preset",
        metavar="NAME",
        help="tiny, base or big (default: tiny, or as the RUN of --from)",
    )
    settings_group.add_argument(
        "--config", metavar="FILE", help="settings in YAML, over the preset"
    )
    settings_group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, over preset and file; may be repeated",
    )


def _describe_settings() -> str:
    lines = ["settings and their defaults (with --preset tiny):"]
    for section in dataclasses.fields(Config):
        values = dataclasses.asdict(getattr(Config(), section.name))
        lines += [f"  {section.name}:"] + [
            f"    {name} = {_word(value)}{_choices(name, value)}" for name, value in values.items()
        ]
    return "\n".join(lines) + _AFTER_THE_SETTINGS


def _word(value: object) -> str:
    """Returns a setting as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(value) or "null"
    return "null" if value is None else str(value).lower()


def _choices(name: str, value: object) -> str:
    """Returns the words that a setting may be, in brackets; "" for other settings."""
    words = ("true", "false") if isinstance(value, bool) else CHOICES.get(name, ())
    return f"  ({', '.join(words)})" if words else ""


def run(options: argparse.Namespace) -> None:
    """Trains a model and writes its run, together with other processes if there are any."""
    if options.ray is None and options.workers is not None:
        raise InputError("--workers needs --ray ADDRESS; got it alone.")
    if options.ray is None:
        _train_here(options)
        return
    if chosen_backend() != "jax":
        raise InputError("--ray trains on JAX: set the environment variable KERAS_BACKEND=jax.")
    if options.devices is not None:
        raise InputError("--devices must be left out with --ray: workers train on all they have.")
    from ktransformer.fitting.on_ray import train_on_ray
    from ktransformer.fitting.run_folder import check_texts

    check_texts(*_take_texts(options))
    train_on_ray(
        functools.partial(_train_in_worker, options),
        address=options.ray,
        workers=options.workers or 1,
        folder=Path(options.output).absolute().parent,
        spare_cpus=0 if options.encode_ray is None else 1,
    )


def _train_in_worker(options: argparse.Namespace, restarted: bool) -> None:
    """Trains in a worker of Ray; after a restart from the state that was left."""
    from ktransformer.cli.progress import log_to_stderr

    log_to_stderr()
    settings = {**vars(options), "resume": options.resume or restarted}
    if options.encode_ray is not None:
        settings["encode_ray"] = "auto"  # The cluster of the worker.
    # As in `command_line`: a process of its own uses TensorFlow.
    with memory_errors(), without_packages("tensorflow", "tensorflow_text"):
        with without_packages("sklearn", "matplotlib"):
            importlib.import_module("keras")
        _train_here(argparse.Namespace(**settings))


def _train_here(options: argparse.Namespace) -> None:
    from ktransformer.fitting.processes import join_processes

    with join_processes():  # Before the run of --from starts the devices.
        _train(options)


def _train(options: argparse.Namespace) -> None:
    from ktransformer.fitting.run_folder import train_run
    from ktransformer.fitting.start import FRESH, Fresh, FromRun

    text, validation, mix = _take_texts(options)
    settings = _read_settings(options)
    beginning: Fresh | FromRun = FRESH
    if options.base is None:
        config = Config().replace(settings)
    else:
        beginning = FromRun(_open_base(options))
        config = beginning.default_config().replace(settings)
    output = train_run(
        config,
        text,
        options.output,
        validation=validation,
        mix=mix,
        devices=options.devices,
        shard_weights=options.shard_weights,
        tensor_parallel=options.tensor_parallel,
        beginning=beginning,
        resume=options.resume,
        overwrite=options.overwrite,
        adapter=options.adapter,
        encode_on=options.encode_ray,
    )
    _log.info("Wrote %s.", output)


def _take_texts(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Returns the files of the training text, those to validate on and those to mix in."""
    validation, mix = (
        _take_pair(options, f"{name}_source", f"{name}_target") for name in ("validation", "mix")
    )
    return _open_text(options), validation, mix


def _open_base(options: argparse.Namespace) -> Any:
    """Opens the run to start from; on JAX without TensorFlow."""
    if chosen_backend() == "jax":
        from ktransformer.fitting.processes import data_parallel
        from ktransformer.saving.run import load_run

        data_parallel(options.devices)  # The run starts JAX, on its devices.
        return load_run(options.base)
    from ktransformer.conversion import open_run
    from ktransformer.fitting.replicas import mirrored_strategy

    if options.devices is not None and options.devices > 1:
        mirrored_strategy(options.devices)  # The run starts TensorFlow, on its devices.
    return open_run(options.base)


def _take_pair(
    options: argparse.Namespace, source: str, target: str
) -> tuple[list[str], list[str]] | None:
    """Returns the files of two options that go together; None if neither is given."""
    files = getattr(options, source), getattr(options, target)
    if bool(files[0]) != bool(files[1]):
        names = " and ".join(f"--{name.replace('_', '-')}" for name in (source, target))
        raise InputError(f"{names} go together; got one.")
    return files if files[0] else None


def _open_text(options: argparse.Namespace) -> Any:
    """Returns the training text: files of pairs, or the corpora that `--data` lists."""
    from ktransformer.fitting.mixture import read_mixture

    names = ["source", "target", "pairs"]
    names += ["validation_source", "validation_target", "mix_source", "mix_target"]
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if options.data is None and not given:
        raise InputError("--source and --target, --pairs or --data are required; got none of them.")
    if options.data is None:
        return open_text(options)
    if given:
        raise InputError(f"{given[0]} must not stand beside --data; got both.")
    return read_mixture(options.data)


def _read_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the preset's settings, with the file's over them and those of --set over both."""
    from ktransformer.models import PRESETS

    preset = options.preset or "tiny"
    if preset not in PRESETS:
        raise InputError(
            f"--preset must be one of {', '.join(PRESETS)}; got {options.preset!r}."
            + did_you_mean(options.preset, PRESETS)
        )
    settings = read_settings(options.config) if options.config else {}
    preset_counts = options.preset or options.base is None
    sizes = PRESETS[preset] if preset_counts else {}
    return {**sizes, **settings, **split_settings(options.set)}
