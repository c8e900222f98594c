"""`ktransformer info`: tells what a file or folder is."""

import argparse
import json

HELP = "describe a run, an export, a tokenizer or a checkpoint"
EXAMPLE = """\
ktransformer info runs/en-de
ktransformer info en-de.tflite --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a run, a SavedModel, a .tflite, a CTranslate2, ONNX or published folder, a .keras "
        "file, a tokenizer, an adapter, or the state of a training; nothing in it is run",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not compare the files with their checksums, which reads all of them",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the facts, one a line."""
    from ktransformer.inspection import inspect, to_text

    facts = inspect(options.path, check=not options.no_check)
    print(json.dumps(facts) if options.json else to_text(facts))
