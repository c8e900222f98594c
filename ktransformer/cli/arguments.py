"""The arguments of the `ktransformer` commands, and their help. No TensorFlow is imported."""

import argparse
import dataclasses
import math
from typing import Any

from ktransformer._version import __version__
from ktransformer.config import CHOICES, BatchingConfig, Config, DecodingConfig

SHORTLIST_PAIRS = 50_000  # Of 30 tokens a side they take 3.3 GB.
SHORTLIST_PIECES = 1000

# Of sacreBLEU, those that need no further package.
_TOKENIZERS = ("13a", "char", "intl", "none", "zh")
_PROGRAM = "a SavedModel is a program: open none that you do not trust (SECURITY.md)"

_LONG_TEXT = """

Of these, null means for vocabulary_size, batch_tokens, epochs, optimizer, learning_rate,
warmup_steps, schedule and average_checkpoints: chosen from the text's size; the training says what
it chose. The rule stands in ktransformer/fitting/defaults.py.

A text of more than shard_pairs pairs is encoded into RUN.checkpoints and streamed from there, in
memory that does not grow with it. The tokenizer is then trained on a sample of shard_pairs pairs,
and subword_alpha is refused."""


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands; what it returns names its `command`."""
    parser = argparse.ArgumentParser(
        prog="ktransformer", description="Train, use and export text-to-text Transformers."
    )
    parser.add_argument("--version", action="version", version=f"ktransformer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)

    command = _add(commands, "translate", "translate stdin to stdout, line by line")
    _add_engine(command)
    command.add_argument(
        "--n-best", type=_positive, default=1, metavar="N", help="lines to print for each line"
    )

    command = _add(commands, "evaluate", "translate a file and print its BLEU and chrF")
    _add_engine(command)
    command.add_argument("--source", required=True, metavar="FILE", help="texts to translate")
    command.add_argument("--reference", required=True, metavar="FILE", help="their translations")
    command.add_argument(
        "--tokenize", default="13a", choices=_TOKENIZERS, help="sacreBLEU's tokenizer"
    )

    command = _add(commands, "score", "print each pair's log-probability and its number of tokens")
    command.add_argument("run", metavar="RUN", help="folder of a trained run")
    command.add_argument("--source", required=True, metavar="FILE", help="source texts")
    command.add_argument("--target", required=True, metavar="FILE", help="target texts")
    _add_batch_size(command)

    _add_prune(commands)
    _add_export(commands)
    _add_verify(commands)
    return parser


def _add_engine(command: argparse.ArgumentParser) -> None:
    """Adds what says which engine translates, and how."""
    command.add_argument(
        "model",
        metavar="MODEL",
        help=f"folder of a run, folder of a SavedModel, or .tflite file; {_PROGRAM}",
    )
    _add_decoding(command)
    _add_batch_size(command)
    _add_threads(command)


def _add_prune(commands: Any) -> None:
    command = _add(commands, "prune", "cut a run's vocabulary to what a corpus needs")
    command.add_argument("run", metavar="RUN", help="folder of a trained run")
    command.add_argument(
        "--corpus",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="text like that to translate, and like its translations; .gz is unpacked",
    )
    command.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    command.add_argument(
        "--overwrite", action="store_true", help="replace that RUN if it is there (default: refuse)"
    )
    command.add_argument(
        "--min-count",
        type=_positive,
        default=1,
        metavar="N",
        help="keep the pieces that the corpus uses at least N times, and all single characters",
    )


def _add_export(commands: Any) -> None:
    command = _add(commands, "export", "write a model that needs no ktransformer")
    command.add_argument(
        "run",
        metavar="RUN",
        help="folder of a trained run, masked language model or image classifier; it is read as "
        "data, nothing in it is run (SECURITY.md)",
    )
    command.add_argument(
        "--format", choices=["saved_model", "tflite"], default="saved_model", help="what to write"
    )
    command.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="a folder, whose next free number takes the SavedModel, or the .tflite file",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a .tflite that is there")
    _add_decoding(command)
    for side in ("source", "target"):
        command.add_argument(
            f"--max-{side}-length",
            type=_positive,
            metavar="N",
            help=f"longest {side} in tokens, the end token included (default: the run's own)",
        )
    for side in ("source", "target"):
        command.add_argument(
            f"--{side}-label",
            default="",
            metavar="TEXT",
            help=f"what the {side} is, a language or any words, for the description",
        )
    command.add_argument(
        "--top-k",
        type=_positive,
        metavar="K",
        help="fills that a masked language model gives for a mask (default: 5)",
    )
    command.add_argument(
        "--quantize",
        choices=["none", "float16", "dynamic_int8"],
        default="none",
        help="how a .tflite stores its weights",
    )
    command.add_argument(
        "--signatures",
        nargs="+",
        metavar="NAME",
        help="which go into a .tflite; of a translator: serving_default, beam, ids, encode, "
        "decode_step; of a masked language model: serving_default, embed, score; of an image "
        "classifier: serving_default, unit_pixels (default: all)",
    )
    command.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="fix all shapes of a .tflite to so many texts, for runtimes that cannot resize "
        "(default: any number)",
    )
    command.add_argument(
        "--batch-requests",
        type=_positive,
        metavar="N",
        help="let a SavedModel join the texts of concurrent requests, at most N in a batch "
        "(default: every request by itself)",
    )
    command.add_argument(
        "--batch-timeout-ms",
        type=float,
        metavar="MS",
        help="with --batch-requests: how long a batch waits to be filled (default: "
        f"{BatchingConfig().timeout_ms:g})",
    )
    command.add_argument(
        "--batch-threads",
        type=_positive,
        metavar="N",
        help=f"with --batch-requests: batches run at a time (default: {BatchingConfig().threads})",
    )
    command.add_argument(
        "--shortlist",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help="parallel text, from which to learn the pieces that a batch's translations are likely "
        "to need, and search in these alone: faster, and not always the same; of more than "
        f"{SHORTLIST_PAIRS:,} pairs so many are drawn; of 30 tokens a side, they take 3.3 GB of "
        "memory (default: search in all)",
    )
    command.add_argument(
        "--shortlist-size",
        type=_positive,
        metavar="C",
        help=f"with --shortlist: pieces to search in (default: {SHORTLIST_PIECES})",
    )


def _add_verify(commands: Any) -> None:
    command = _add(commands, "verify", "compare exports with the model that they were made from")
    command.add_argument(
        "exports",
        nargs="+",
        metavar="EXPORT",
        help=f"folder of a SavedModel, or .tflite file; {_PROGRAM}",
    )
    command.add_argument(
        "--run",
        required=True,
        metavar="RUN",
        help="folder of the trained run, masked language model or image classifier",
    )
    command.add_argument(
        "--source",
        required=True,
        metavar="FILE",
        help="texts; for an image classifier a folder of images",
    )
    command.add_argument("--reference", metavar="FILE", help="their translations, for BLEU")
    command.add_argument(
        "--json",
        metavar="FILE",
        help="write the report there, too; a file that is there is replaced",
    )
    command.add_argument(
        "--differences", type=_count, default=3, metavar="N", help="texts to show for each export"
    )
    for name, text in (
        ("--min-identical", "least share of identical texts (default for float32: 0.999)"),
        ("--max-score-difference", "between identical texts' scores (default for float32: 0.001)"),
    ):
        command.add_argument(name, type=float, metavar="X", help=text)
    command.add_argument(
        "--max-bleu-drop",
        type=float,
        metavar="X",
        help="with --reference: BLEU points to lose at most (default: 0.3)",
    )
    _add_batch_size(command, default=1)
    _add_threads(command)


def _add_train(commands: Any) -> None:
    command = _add(commands, "train", "train a model on parallel text")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = _describe_settings()
    for name, text, required in (
        ("--source", "source text, a line each; .gz is unpacked; several files follow on", True),
        ("--target", "its translation, line for line", True),
        ("--validation-source", "source text to validate on", False),
        ("--validation-target", "its translation", False),
    ):
        command.add_argument(
            name, nargs="+", action="extend", required=required, metavar="FILE", help=text
        )
    command.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace RUN, and what is kept of a training of it that was cut (default: refuse)",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on with a training of the same RUN, data and settings that was cut; it ends as if "
        "it had not been, to the bit (default: refuse if there is one)",
    )
    command.add_argument(
        "--devices",
        type=_positive,
        default=1,
        metavar="N",
        help="devices that share every batch: the first N GPUs, or, where TensorFlow sees none, N "
        "parts of the CPU, for a trial, as many as it has cores at most, or 2 (default: 1)",
    )
    command.add_argument(
        "--preset", default="tiny", metavar="NAME", help="tiny, base or big (default: tiny)"
    )
    command.add_argument("--config", metavar="FILE", help="settings in YAML, over the preset")
    command.add_argument(
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
            f"    {name} = {'null' if value is None else str(value).lower()}{_choices(name, value)}"
            for name, value in values.items()
        ]
    return "\n".join(lines) + _LONG_TEXT


def _choices(name: str, value: object) -> str:
    """Returns, in brackets, what a setting may be where that is one of several words."""
    words = ("true", "false") if isinstance(value, bool) else CHOICES.get(name, ())
    return f"  ({', '.join(words)})" if words else ""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default in (None, False, "")
        return action.help if says_nothing else super()._get_help_string(action)


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        formatter_class=_HelpFormatter,
    )
    parser.set_defaults(command=name, beam_size=None, length_penalty=None)
    return parser


def _positive(word: str) -> int:
    return _whole_number(word, least=1)


def _count(word: str) -> int:
    return _whole_number(word, least=0)


def _penalty(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0; got {word}")
    return value


def _whole_number(word: str, least: int) -> int:
    if not word.isascii() or not word.isdecimal() or int(word) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}; got {word}")
    return int(word)


def _add_decoding(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--beam-size",
        type=_positive,
        metavar="K",
        help="places of the beam, 1 for greedy (default: what the run was trained with, "
        f"{DecodingConfig().beam_size} unless set)",
    )
    command.add_argument(
        "--length-penalty",
        type=_penalty,
        metavar="A",
        help="score of a translation: log-probability / length^A; more for longer ones (default: "
        f"what the run was trained with, {DecodingConfig().length_penalty} unless set)",
    )


def _add_batch_size(command: argparse.ArgumentParser, default: int = 32) -> None:
    command.add_argument(
        "--batch-size",
        type=_positive,
        default=default,
        metavar="N",
        help="inputs of a batch",
    )


def _add_threads(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="CPU threads (default: one a core)",
    )
