"""`ktransformer export`: writes a SavedModel or a .tflite."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ktransformer.cli.options import add_decoding, positive
from ktransformer.config import BatchingConfig
from ktransformer.errors import InputError, printable

if TYPE_CHECKING:
    from ktransformer.tasks import Task

HELP = "write a model that needs no ktransformer"
_SHORTLIST_PAIRS = 50_000  # Of 30 tokens a side they take 3.3 GB.
_SHORTLIST_PIECES = 1000
# Options that are settings of a kind of model; each kind knows its own.
_SETTINGS = (
    "beam_size",
    "length_penalty",
    "max_source_length",
    "max_target_length",
    "target_language",
    "top_k",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="folder of a trained model; it is read as data, nothing in it is run (SECURITY.md)",
    )
    parser.add_argument(
        "--format", choices=["saved_model", "tflite"], default="saved_model", help="what to write"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="a folder, whose next free number takes the SavedModel, or the .tflite file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a .tflite that is there")
    add_decoding(parser)
    for side in ("source", "target"):
        parser.add_argument(
            f"--max-{side}-length",
            type=positive,
            metavar="N",
            help=f"longest {side} in tokens, the end token included (default: the run's own)",
        )
    for side in ("source", "target"):
        parser.add_argument(
            f"--{side}-label",
            default="",
            metavar="TEXT",
            help=f"the language of the {side}, or any other name of it, for the description",
        )
    parser.add_argument(
        "--target-language",
        metavar="CODE",
        help="the language to translate into, of a model with language tokens such as >>por<<: por "
        "(default: the texts begin with the token themselves)",
    )
    parser.add_argument(
        "--top-k",
        type=positive,
        metavar="K",
        help="fills that are given for a mask (default: 5)",
    )
    parser.add_argument(
        "--quantize",
        choices=["none", "float16", "dynamic_int8"],
        default="none",
        help="how a .tflite stores its weights",
    )
    parser.add_argument(
        "--signatures",
        nargs="+",
        metavar="NAME",
        help="those of a .tflite (default: all that its kind of model has, see export/README.md)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="fix all shapes of a .tflite to so many texts, for runtimes that cannot resize "
        "(default: any number)",
    )
    parser.add_argument(
        "--batch-requests",
        type=positive,
        metavar="N",
        help="let a SavedModel join the texts of concurrent requests, at most N in a batch "
        "(default: every request by itself)",
    )
    parser.add_argument(
        "--batch-timeout-ms",
        type=float,
        metavar="MS",
        help="with --batch-requests: how long a batch waits to be filled (default: "
        f"{BatchingConfig().timeout_ms:g})",
    )
    parser.add_argument(
        "--batch-threads",
        type=positive,
        metavar="N",
        help=f"with --batch-requests: batches run at a time (default: {BatchingConfig().threads})",
    )
    parser.add_argument(
        "--shortlist",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="parallel text, from which to learn the pieces that a batch's translations are likely "
        "to need, and search in these alone: faster, and not always the same; of a longer text, "
        f"{_SHORTLIST_PAIRS:,} pairs are drawn, which take 3.3 GB of memory if they have 30 tokens "
        "a side (default: search in all)",
    )
    parser.add_argument(
        "--shortlist-size",
        type=positive,
        metavar="C",
        help=f"with --shortlist: pieces to search in (default: {_SHORTLIST_PIECES})",
    )


def run(options: argparse.Namespace) -> None:
    """Writes a trained model as a SavedModel or a .tflite and prints its path."""
    from ktransformer.exporting import export_lite, export_saved_model, tokenizer_beside
    from ktransformer.files import check_new_file

    lite = options.format == "tflite"
    for_lite = (options.quantize != "none", options.signatures, options.batch_size)
    if not lite and (any(for_lite) or options.overwrite):
        raise InputError(
            "--quantize, --signatures, --batch-size and --overwrite go with --format tflite."
        )
    batching = _batching(options)
    if lite:
        if batching is not None:
            raise InputError(
                "--batch-requests goes with a SavedModel: a .tflite has one caller at a time."
            )
        for path in (options.output, tokenizer_beside(options.output)):
            check_new_file(path, overwrite=options.overwrite)
    task = _load_task(options)
    labels = _labels(options, task)
    if lite:
        path = export_lite(
            task,
            options.output,
            signatures=options.signatures,
            quantization=options.quantize,
            batch_size=options.batch_size,
            overwrite=options.overwrite,
            **labels,
        )
    else:
        path = export_saved_model(task, options.output, batching=batching, **labels)
    print(printable(path) if sys.stdout.isatty() else path)  # A pipe gets the very bytes.


def _batching(options: argparse.Namespace) -> BatchingConfig | None:
    """Returns how the export joins concurrent requests; None for not at all."""
    settings = {"timeout_ms": options.batch_timeout_ms, "threads": options.batch_threads}
    given = {name: value for name, value in settings.items() if value is not None}
    if options.batch_requests is not None:
        if options.shortlist is not None:
            raise InputError(
                "--shortlist does not go with --batch-requests: a text's translation would depend "
                "on the texts of other callers."
            )
        return BatchingConfig(max_texts=options.batch_requests, **given)
    if given:
        raise InputError("--batch-timeout-ms and --batch-threads go with --batch-requests.")
    return None


def _load_task(options: argparse.Namespace) -> "Task":
    """Opens the model with the given settings and the shortlist."""
    from ktransformer.tasks import load
    from ktransformer.tasks.shortlist import learn_shortlist
    from ktransformer.text import ParallelFiles

    if options.shortlist_size is not None and options.shortlist is None:
        raise InputError("--shortlist-size goes with --shortlist.")
    task: Any = load(options.run, **{name: getattr(options, name) for name in _SETTINGS})
    if options.shortlist is None:
        return task
    _check_has(options, task, "shortlist", task.SETTINGS)
    files, size = ParallelFiles(*options.shortlist), options.shortlist_size or _SHORTLIST_PIECES
    return task.with_settings(
        shortlist=learn_shortlist(
            files,
            task.tokenizer,
            size,
            max_pairs=_SHORTLIST_PAIRS,
            target_tokenizer=task.target_tokenizer,
        )
    )


def _labels(options: argparse.Namespace, task: "Task") -> dict[str, str]:
    """Returns the labels that are given; refuses those that the description does not have."""
    names = [name for name in ("source_label", "target_label") if getattr(options, name)]
    fields = [field.name for field in dataclasses.fields(task.description_class)]
    for name in names:
        _check_has(options, task, name, fields)
    return {name: getattr(options, name) for name in names}


def _check_has(options: argparse.Namespace, task: "Task", name: str, known: Sequence[str]) -> None:
    from ktransformer.tasks import with_article

    if name not in known:
        raise InputError(f"{options.run} is {with_article(task.kind)}, which has no {name}.")
