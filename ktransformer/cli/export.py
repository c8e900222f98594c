"""`ktransformer export`: writes a SavedModel or a .tflite."""

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from ktransformer.cli.options import add_decoding, positive
from ktransformer.config import BatchingConfig
from ktransformer.errors import InputError, printable

if TYPE_CHECKING:
    from ktransformer.tasks import Servable, Shortlist
    from ktransformer.text import Tokenizer

HELP = "write a model that needs no ktransformer"
_SHORTLIST_PAIRS = 50_000  # Of 30 tokens a side they take 3.3 GB.
_SHORTLIST_PIECES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="folder of a trained run, masked language model or image classifier; it is read as "
        "data, nothing in it is run (SECURITY.md)",
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
            help=f"what the {side} is, a language or any words, for the description",
        )
    parser.add_argument(
        "--top-k",
        type=positive,
        metavar="K",
        help="fills that a masked language model gives for a mask (default: 5)",
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
        help="which go into a .tflite; of a translator: serving_default, beam, ids, encode, "
        "decode_step; of a masked language model: serving_default, embed, score; of an image "
        "classifier: serving_default, unit_pixels (default: all)",
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
        "to need, and search in these alone: faster, and not always the same; of more than "
        f"{_SHORTLIST_PAIRS:,} pairs so many are drawn; of 30 tokens a side, they take 3.3 GB of "
        "memory (default: search in all)",
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
    servable, labels = _load_for_export(options)
    if lite:
        path = export_lite(
            servable,
            options.output,
            signatures=options.signatures,
            quantization=options.quantize,
            batch_size=options.batch_size,
            overwrite=options.overwrite,
            **labels,
        )
    else:
        path = export_saved_model(servable, options.output, batching=batching, **labels)
    print(printable(path) if sys.stdout.isatty() else path)  # A pipe gets the very bytes.


def _batching(options: argparse.Namespace) -> BatchingConfig | None:
    """Returns how the export is to join concurrent requests, None for not at all."""
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


def _load_for_export(options: argparse.Namespace) -> tuple["Servable", dict[str, str]]:
    """Opens the model, with a translator's decoding settings and labels where they are given."""
    decoding = {
        name: getattr(options, name)
        for name in ("beam_size", "length_penalty", "max_source_length", "max_target_length")
    }
    labels = {"source_label": options.source_label, "target_label": options.target_label}
    from ktransformer.tasks import MaskFiller, Translator
    from ktransformer.tasks.folder import load_servable

    if options.shortlist_size is not None and options.shortlist is None:
        raise InputError("--shortlist-size goes with --shortlist.")
    servable = load_servable(options.run)
    if options.top_k is not None:
        if not isinstance(servable, MaskFiller):
            raise _misplaced(options.run, servable, "--top-k goes with a masked language model")
        servable = MaskFiller(servable.model, servable.tokenizer, options.top_k)
    if isinstance(servable, Translator):
        changes = {name: value for name, value in decoding.items() if value is not None}
        searching = dataclasses.replace(servable.decoding, **changes)
        shortlist = _shortlist(options, servable.tokenizer)
        return Translator(servable.model, servable.tokenizer, searching, shortlist), labels
    if options.shortlist is not None:
        raise _misplaced(options.run, servable, "--shortlist goes with a translator")
    if any(value is not None for value in decoding.values()) or any(labels.values()):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in decoding)
        raise _misplaced(options.run, servable, f"{given} and the labels go with a translator")
    return servable, {}


def _shortlist(options: argparse.Namespace, tokenizer: "Tokenizer") -> "Shortlist | None":
    """Learns a shortlist from parallel text; None where none is asked for."""
    from ktransformer.tasks.shortlist import learn_shortlist
    from ktransformer.text import ParallelFiles

    if options.shortlist is None:
        return None
    size = options.shortlist_size or _SHORTLIST_PIECES
    return learn_shortlist(
        ParallelFiles(*options.shortlist), tokenizer, size, max_pairs=_SHORTLIST_PAIRS
    )


def _misplaced(run: str, servable: "Servable", rule: str) -> InputError:
    from ktransformer.tasks import with_article

    return InputError(f"{run} is {with_article(servable.kind)}: {rule}.")
