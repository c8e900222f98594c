"""`ktransformer distill`: writes the text that a student of a model is trained on."""

import argparse
import logging
import sys

from ktransformer.cli.engine import add_engine, find_batch_size, open_engine, warn_of_texts
from ktransformer.cli.options import positive
from ktransformer.cli.progress import Progress

HELP = "write the text that a student of a model is trained on"
EXAMPLE = "ktransformer distill runs/en-de --source train.en --target train.de --output distilled"
_log = logging.getLogger(__name__)
_BLOCK_PAIRS = 10_000  # Translated before any of them is written.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_engine(parser)
    for name, text in (
        ("--source", "source text, a line each; .gz is unpacked; several files follow on"),
        ("--target", "its translation, line for line"),
    ):
        parser.add_argument(
            name, nargs="+", action="extend", required=True, metavar="FILE", help=text
        )
    parser.add_argument(
        "--n-best",
        type=positive,
        metavar="N",
        help="translations of each text, of which the one nearest to its target is taken, and the "
        "first (default: the beam size)",
    )
    parser.add_argument(
        "--tokenize",
        default="13a",
        choices=("13a", "none"),
        help="tokenizer of the sentence BLEU that tells which is nearest",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder to write, with the files `source` and `target`, three pairs for each pair",
    )


def run(options: argparse.Namespace) -> None:
    """Writes each pair, and its source with the nearest and with the first translation.

    Reference: Kim and Rush 2016 (sequence-level distillation and interpolation).
    """
    from ktransformer.engines import translate_blocks
    from ktransformer.files import check_new_folder, new_folder
    from ktransformer.scores import nearest_text
    from ktransformer.text import ParallelFiles
    from ktransformer.text.unknown_characters import UnknownCharacters

    check_new_folder(options.output)
    engine = open_engine(options)
    n_best = options.n_best or engine.description.decoding.beam_size
    engine.find_signature(n_best)
    unknown = UnknownCharacters(engine.description.characters, engine.description.symbols)
    truncated = pairs = 0
    progress = Progress(sys.stderr)
    with (
        new_folder(options.output) as folder,
        (folder / "source").open("w", encoding="utf-8") as sources,
        (folder / "target").open("w", encoding="utf-8") as targets,
    ):
        for block in ParallelFiles(options.source, options.target).blocks(_BLOCK_PAIRS):
            unknown.add(block.sources)
            (found,) = translate_blocks(
                engine,
                [block.sources],
                batch_size=find_batch_size(options),
                n_best=n_best,
                on_batch=progress.add,
            )
            for source, target, each in zip(block.sources, block.targets, found, strict=True):
                texts = [" ".join(text.splitlines()) for text in each.texts]
                nearest = nearest_text(texts, target, tokenize=options.tokenize)
                print(source, source, source, sep="\n", file=sources)
                print(target, nearest, texts[0], sep="\n", file=targets)
                truncated += each.truncated
            pairs += len(block)
    progress.finish()
    warn_of_texts(engine, truncated, unknown)
    _log.info("Wrote %s: %s pairs of %s.", options.output, f"{3 * pairs:,}", f"{pairs:,}")
