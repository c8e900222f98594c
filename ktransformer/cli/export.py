"""`ktransformer export`: writes a model in a format of others: a SavedModel, a .tflite, ..."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ktransformer.cli.options import add_adapter, add_decoding, add_tag, positive
from ktransformer.config import BatchingConfig, CompilationConfig
from ktransformer.errors import InputError, printable

if TYPE_CHECKING:
    from pathlib import Path

    from ktransformer.tasks import Task

HELP = "write a model that needs no ktransformer"
EXAMPLE = """\
ktransformer export runs/en-de --output exports/en-de
ktransformer export runs/en-de --output exports/en-de --quantize int8_weights
ktransformer export runs/en-de --format tflite --quantize dynamic_int8 --output en-de.tflite"""
_SHORTLIST_PAIRS = 50_000  # Of 30 tokens a side they take 3.3 GB.
_SHORTLIST_PIECES = 1000
# Options that are settings of a kind of model; each kind knows its own.
_SWITCHES = {
    "early_stopping": "end a beam with its first finished hypotheses, as many as it has places",
    "score_forced_end": "let the end token that the length limit forces count in the score",
    "suppress_unknown": "never write the unknown piece",
}
_SETTINGS = (
    *("beam_size", "length_penalty", "copy", *_SWITCHES),
    *("max_source_length", "max_target_length", "tag", "target_language", "top_k"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="folder of a trained model, or of a published one (docs/published.md); it is read as "
        "data, nothing in it is run (SECURITY.md)",
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="saved_model",
        help="what to write; docs/how-to/other-formats.md says what each can express",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="a folder, whose next free number takes the SavedModel, the .tflite file, or the "
        "folder of another format",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an output that is there, which a SavedModel never does (default: refuse)",
    )
    add_adapter(parser)
    search = parser.add_argument_group("search")
    add_decoding(search)
    for name, meaning in _SWITCHES.items():
        search.add_argument(
            f"--{name.replace('_', '-')}",
            action=argparse.BooleanOptionalAction,
            help=f"{meaning} (default: the run's own)",
        )
    for side in ("source", "target"):
        search.add_argument(
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
    add_tag(search)
    search.add_argument(
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
        choices=tuple(dict.fromkeys(name for names in QUANTIZATIONS.values() for name in names)),
        default="none",
        help="type of the stored weights, by format: "
        + "; ".join(f"{form}: {', '.join(names)}" for form, names in QUANTIZATIONS.items())
        + ". A SavedModel computes in float32 whatever it stores",
    )
    parser.add_argument(
        "--signatures",
        nargs="+",
        metavar="NAME",
        help="those of a SavedModel or .tflite (default: see export/README.md; a translator has "
        "controlled on request alone)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="fix all shapes of a .tflite to so many texts, for runtimes that cannot resize "
        "(default: any number)",
    )
    requests = parser.add_argument_group("concurrent requests, of a SavedModel")
    requests.add_argument(
        "--batch-requests",
        type=positive,
        metavar="N",
        help="let a SavedModel join the texts of concurrent requests, at most N in a batch "
        "(default: every request by itself)",
    )
    requests.add_argument(
        "--batch-timeout-ms",
        type=float,
        metavar="MS",
        help="with --batch-requests: how long a batch waits to be filled (default: "
        f"{BatchingConfig().timeout_ms:g})",
    )
    requests.add_argument(
        "--batch-threads",
        type=positive,
        metavar="N",
        help=f"with --batch-requests: batches run at a time (default: {BatchingConfig().threads})",
    )
    compiling = parser.add_argument_group("XLA, of a translator's SavedModel")
    compiling.add_argument(
        "--compile",
        action="store_true",
        help="let XLA compile the searches, for a few shapes to which batches are padded: faster, "
        "most of all in small batches, after some seconds for each shape when it first comes "
        "(default: no)",
    )
    shapes = CompilationConfig
    small, large, lengths = (
        " ".join(map(str, sizes))
        for sizes in (shapes.SMALL_MODEL_SIZES, shapes.LARGE_MODEL_SIZES, shapes.lengths)
    )
    for name, what, default in (
        (
            "batch_sizes",
            "texts in a batch of fewer than 8, or in each part of a larger one",
            f"{small}; {large} from {shapes.LARGE_MODEL_WEIGHTS:,} weights on",
        ),
        ("lengths", "tokens of the longest text", lengths),
    ):
        compiling.add_argument(
            f"--compile-{name.replace('_', '-')}",
            nargs="+",
            type=positive,
            metavar="N",
            help=f"with --compile: {what} (default: {default})",
        )
    shortlist = parser.add_argument_group("shortlist")
    shortlist.add_argument(
        "--shortlist",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="parallel text, from which to learn the pieces that a batch's translations are likely "
        "to need, and search in these alone: faster, and not always the same; of a longer text, "
        f"{_SHORTLIST_PAIRS:,} pairs are drawn, which take 3.3 GB of memory if they have 30 tokens "
        "a side (default: search in all)",
    )
    shortlist.add_argument(
        "--shortlist-size",
        type=positive,
        metavar="C",
        help=f"with --shortlist: pieces to search in (default: {_SHORTLIST_PIECES})",
    )


def run(options: argparse.Namespace) -> None:
    """Writes a trained model in another format and prints its path."""
    _check_options(options)
    batching = _batching(options)
    path = _FORMATS[options.format](options, batching)
    print(printable(path) if sys.stdout.isatty() else path)  # A pipe gets the very bytes.


def _check_options(options: argparse.Namespace) -> None:
    """Refuses options that the format does not have."""
    for name, formats in _OPTIONS.items():
        if options.format not in formats and getattr(options, name) not in (None, False, "none"):
            raise _wrong_format(f"--{name.replace('_', '-')}", formats, options.format)
    formats = tuple(form for form, names in QUANTIZATIONS.items() if options.quantize in names)
    if options.quantize != "none" and options.format not in formats:
        raise _wrong_format(f"--quantize {options.quantize}", formats, options.format)


def _wrong_format(option: str, formats: Sequence[str], given: str) -> InputError:
    return InputError(f"{option} goes with --format {' or '.join(formats)}; got --format {given}.")


def _to_saved_model(options: argparse.Namespace, batching: BatchingConfig | None) -> "Path":
    from ktransformer.exporting import export_saved_model

    compilation = _compilation(options)
    task = _load_task(options)
    return export_saved_model(
        task,
        options.output,
        signatures=options.signatures,
        quantization=options.quantize,
        batching=batching,
        compilation=compilation,
        **_labels(options, task),
    )


def _to_lite(options: argparse.Namespace, _: BatchingConfig | None) -> "Path":
    from ktransformer.exporting import export_lite, tokenizer_beside
    from ktransformer.files import check_new_file

    for path in (options.output, tokenizer_beside(options.output)):
        check_new_file(path, overwrite=options.overwrite)
    task = _load_task(options)
    return export_lite(
        task,
        options.output,
        signatures=options.signatures,
        quantization=options.quantize,
        batch_size=options.batch_size,
        overwrite=options.overwrite,
        **_labels(options, task),
    )


def _to_ctranslate2(options: argparse.Namespace, _: BatchingConfig | None) -> "Path":
    from ktransformer.conversion.ctranslate2 import export_ctranslate2
    from ktransformer.conversion.ctranslate2.library import import_ctranslate2

    import_ctranslate2()  # Before any work.
    task = _load_task(options)
    return export_ctranslate2(
        task,
        options.output,
        quantization=options.quantize,
        overwrite=options.overwrite,
        **_labels(options, task),
    )


def _to_huggingface(options: argparse.Namespace, _: BatchingConfig | None) -> "Path":
    from ktransformer.conversion.huggingface import export_huggingface

    task = _load_task(options)
    labels = _labels(options, task)
    return export_huggingface(task, options.output, overwrite=options.overwrite, **labels)


def _to_onnx(options: argparse.Namespace, _: BatchingConfig | None) -> "Path":
    from ktransformer.conversion.onnx import export_onnx, import_converter

    import_converter()  # Before any work.
    task = _load_task(options)
    labels = _labels(options, task)
    return export_onnx(task, options.output, overwrite=options.overwrite, **labels)


_FORMATS = {
    "saved_model": _to_saved_model,
    "tflite": _to_lite,
    "ctranslate2": _to_ctranslate2,
    "huggingface": _to_huggingface,
    "onnx": _to_onnx,
}
# Mirrors the exporters' tuples, which `--help` must not import; a test compares them.
QUANTIZATIONS = {
    "saved_model": ("none", "float16", "int8_weights"),
    "tflite": ("none", "float16", "dynamic_int8"),
    "ctranslate2": ("none", "float16", "int8", "int16", "int8_float16"),
}
# Options that only some formats have.
_OPTIONS = {
    "overwrite": ("tflite", "ctranslate2", "huggingface", "onnx"),
    "signatures": ("saved_model", "tflite"),
    "batch_size": ("tflite",),
    "batch_requests": ("saved_model",),
    "batch_timeout_ms": ("saved_model",),
    "batch_threads": ("saved_model",),
    "compile": ("saved_model",),
    "compile_batch_sizes": ("saved_model",),
    "compile_lengths": ("saved_model",),
    "shortlist": ("saved_model", "tflite"),
    "shortlist_size": ("saved_model", "tflite"),
}


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


def _compilation(options: argparse.Namespace) -> CompilationConfig | None:
    """Returns in which shapes XLA compiles the searches; None for none."""
    settings = {"batch_sizes": options.compile_batch_sizes, "lengths": options.compile_lengths}
    given: dict[str, Any] = {
        name: tuple(value) for name, value in settings.items() if value is not None
    }
    if options.compile:
        if options.shortlist is not None:
            raise InputError("--shortlist does not go with --compile: its size varies.")
        return CompilationConfig(**given)
    if given:
        raise InputError("--compile-batch-sizes and --compile-lengths go with --compile.")
    return None


def _load_task(options: argparse.Namespace) -> "Task":
    """Opens the model with the given settings and the shortlist."""
    from ktransformer.conversion import load
    from ktransformer.tasks.shortlist import learn_shortlist
    from ktransformer.text import ParallelFiles

    if options.shortlist_size is not None and options.shortlist is None:
        raise InputError("--shortlist-size goes with --shortlist.")
    task: Any = load(
        options.run,
        adapter=options.adapter,
        **{name: getattr(options, name) for name in _SETTINGS},
    )
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
