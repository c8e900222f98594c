"""`ktransformer verify`: compares exports with their model."""

import argparse
import os

from ktransformer.cli.options import A_PROGRAM, add_batch_size, add_threads, count
from ktransformer.errors import InputError

HELP = "compare exports with the model that they were made from"
EXAMPLE = "ktransformer verify exports/en-de en-de.tflite --run runs/en-de --source test.en"
_TOLERANCES = {
    "min_identical": "least share of identical texts or classes (default in float32: 0.999)",
    "max_score_difference": "greatest difference of their scores (default in float32: 0.001)",
    "max_bleu_drop": "with --reference: BLEU points to lose at most (default: 0.3)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "exports",
        nargs="+",
        metavar="EXPORT",
        help=f"folder of a SavedModel, or .tflite file; {A_PROGRAM}",
    )
    parser.add_argument(
        "--run",
        required=True,
        metavar="RUN",
        help="folder of the trained model",
    )
    parser.add_argument(
        "--source",
        required=True,
        metavar="FILE",
        help="texts, a line each, or a folder of images, as the model takes them",
    )
    parser.add_argument("--reference", metavar="FILE", help="their translations, for BLEU")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the report there, too; a file that is there is replaced",
    )
    parser.add_argument(
        "--differences",
        type=count,
        default=3,
        metavar="N",
        help="differing texts to show for each export",
    )
    for name, text in _TOLERANCES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=text)
    add_batch_size(parser, default=1)
    add_threads(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the report; returns 1 where a tolerance is exceeded."""
    from ktransformer.files import check_new_file, new_file
    from ktransformer.runtime.threads import set_threads
    from ktransformer.verification import Tolerances, verify

    set_threads(options.threads)
    if options.json:
        check_new_file(options.json, overwrite=True)
        for read in (*options.exports, options.source, options.reference):
            if read is not None and os.path.realpath(read) == os.path.realpath(options.json):
                raise InputError(f"--json must be a file of its own; got {options.json}.")
    if options.max_bleu_drop is not None and not options.reference:
        raise InputError("--max-bleu-drop goes with --reference.")
    stated = {name: getattr(options, name) for name in _TOLERANCES}
    report = verify(
        options.exports,
        options.run,
        options.source,
        options.reference,
        tolerances=Tolerances(**{k: v for k, v in stated.items() if v is not None}),
        threads=options.threads,
        batch_size=options.batch_size,
    )
    print(report.to_text(differences=options.differences))
    if options.json:
        with new_file(options.json) as file:
            file.write_text(report.to_json(), encoding="utf-8")
    return 1 if report.broken else 0
