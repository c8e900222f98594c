"""The options of `translate` for texts of several sentences."""

import argparse
from typing import TYPE_CHECKING, Any

from ktransformer.cli.controls import find_controls
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.engines import Engine

_OF_ONE_SENTENCE = ("alignment", "token_scores", "prefix", "alternatives")


def add_documents(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--sentences",
        action="store_true",
        help="translate each line sentence by sentence: for lines of several sentences, of which a "
        "model of single sentences may leave some out",
    )
    group.add_argument(
        "--document",
        action="store_true",
        help="take stdin for one document: translate it sentence by sentence, and print all that "
        "is between the sentences as it is",
    )


def check_options(options: argparse.Namespace) -> None:
    """Checks which options go together, before a model is opened.

    Raises:
        InputError: Some do not.
    """
    if options.terms is not None and find_controls(options) is not None:
        raise InputError("--terms does not go with options of the search.")
    if options.terms is not None and options.n_best > 1:
        raise InputError(f"--n-best must be 1 with --terms; got {options.n_best}.")
    if not (options.document or options.sentences):
        return
    if options.document and options.input is None and options.batch_size is not None:
        raise InputError(
            "--batch-size does not go with --document, whose sentences have batches of their own."
        )
    mode = "--document" if options.document else "--sentences"
    if options.n_best != 1:
        raise InputError(f"--n-best must be 1 with {mode}; got {options.n_best}.")
    for name in (name for name in _OF_ONE_SENTENCE if getattr(options, name)):
        raise InputError(
            f"--{name.replace('_', '-')} does not go with {mode}: it is for one sentence a line."
        )


def find_document_options(engine: "Engine", options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `Engine.translate_document`; raises before anything is read."""
    given: dict[str, Any] = find_controls(options) or {}
    if options.terms is not None:
        given["terms"] = open_terms(engine, options)
    engine.translate_document([], **given)
    return given


def open_terms(engine: "Engine", options: argparse.Namespace) -> list[tuple[str, str]]:
    """Returns the terminology of `--terms`.

    Raises:
        InputError: The file has something else; see `read_terms`.
    """
    from ktransformer.text.terms import check_terms, read_terms

    terms = read_terms(options.terms)
    return check_terms(terms, characters=engine.description.target_characters, origin=options.terms)
