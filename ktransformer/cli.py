"""The `ktransformer` command: train, translate, evaluate, score, export.

Results go to stdout, progress to stderr. TensorFlow is imported when a command needs it, so that
`--help` answers at once.
"""

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransformer._version import __version__
from ktransformer.config import Config, DecodingConfig, read_settings
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.serving import Translator

_READ_BYTES = 1 << 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line; None for the process's own.

    Returns:
        The exit status: 0, 2 where the user can mend what is wrong, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("ktransformer").setLevel(logging.INFO)
    try:
        options.command(options)
        sys.stdout.flush()
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:  # The reader of our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _fail(f"{error.filename or 'Writing the output'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        return _fail("Interrupted; nothing that was there before has changed.", status=130)
    return 0


def _fail(sentence: str, status: int = 2) -> int:
    print(f"ktransformer: {sentence}", file=sys.stderr)
    return status


def _train(options: argparse.Namespace) -> None:
    from ktransformer.fitting import train
    from ktransformer.models import PRESETS
    from ktransformer.run import check_run_path, save_run
    from ktransformer.text import read_parallel

    if options.preset not in PRESETS:
        raise InputError(f"--preset must be one of {', '.join(PRESETS)}; got {options.preset!r}.")
    if bool(options.validation_source) != bool(options.validation_target):
        raise InputError("--validation-source and --validation-target go together; got one.")
    settings = read_settings(options.config) if options.config else {}
    config = Config().replace({**PRESETS[options.preset], **settings, **_pairs(options.set)})
    check_run_path(options.output, overwrite=options.overwrite)
    text = read_parallel(options.source, options.target)
    validation = None
    if options.validation_source:
        validation = read_parallel(options.validation_source, options.validation_target)
    output = Path(options.output)
    checkpoints = output.with_name(f"{output.name}.checkpoints")
    try:
        run = train(config, text, validation, checkpoints=checkpoints)
    except KeyboardInterrupt:
        if checkpoints.is_dir():
            logging.getLogger(__name__).info("The last epochs' weights are in %s.", checkpoints)
        raise
    save_run(run, output, overwrite=options.overwrite)
    logging.getLogger(__name__).info("Wrote %s.", output)


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set takes key=value; got {setting!r}.")
        pairs[key] = value
    return pairs


def _translate(options: argparse.Namespace) -> None:
    if not 1 <= options.n_best <= (options.beam_size or options.n_best):
        raise InputError(
            "--n-best must be from 1 to the beam size; "
            f"got --n-best {options.n_best}, --beam-size {options.beam_size}."
        )
    translator = _load_translator(options.run, options.beam_size)
    if options.n_best > translator.decoding.beam_size:
        raise InputError(
            f"--n-best must be at most the run's beam size, {translator.decoding.beam_size}; "
            f"got {options.n_best}. Give a larger --beam-size."
        )
    done = cut = 0
    for lines in _blocks(sys.stdin.fileno()):
        for translations in _translate_lines(translator, lines, options):
            print("\n".join(translations))
        sys.stdout.flush()
        cut += _count_cut(translator, lines)
        done += len(lines)
        print(f"{done} lines translated", end="\r", file=sys.stderr, flush=True)
    cut_note = f"; {cut} were cut to {translator.model.max_length} tokens" if cut else ""
    print(f"{done} lines translated{cut_note}.", file=sys.stderr)


def _blocks(descriptor: int) -> Iterator[list[str]]:
    """Reads a stream as it comes: every block is the whole lines that are there by now."""
    from ktransformer.text.corpus import decode_line

    number, rest = 0, b""
    while True:
        data = os.read(descriptor, _READ_BYTES)
        *whole, rest = (rest + data).split(b"\n")
        if not data and rest:  # The last line has no end.
            whole, rest = [rest], b""
        if whole:
            yield [
                decode_line(line, "standard input", number + i + 1) for i, line in enumerate(whole)
            ]
            number += len(whole)
        if not data:
            return


def _translate_lines(
    translator: "Translator", lines: list[str], options: argparse.Namespace
) -> list[list[str]]:
    """Translates lines in batches of like length; gives them back in order, n-best each."""
    import tensorflow as tf

    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    outputs: list[list[str]] = [[]] * len(lines)
    for i in range(0, len(order), options.batch_size):
        chosen = order[i : i + options.batch_size]
        texts = tf.constant([lines[j] for j in chosen])
        if options.n_best == 1:
            rows = translator.translate(texts)["text"].numpy()[:, None]
        else:
            rows = translator.beam(texts)["text"].numpy()[:, : options.n_best]
        for j, row in zip(chosen, rows, strict=True):
            outputs[j] = [text.decode() for text in row]
    return outputs


def _count_cut(translator: "Translator", lines: list[str]) -> int:
    import tensorflow as tf

    tokens = translator.count_tokens(tf.constant(lines)).numpy()
    return int((tokens > translator.model.max_length).sum())


def _load_translator(path: str, beam_size: int | None) -> "Translator":
    from ktransformer.run import load_run
    from ktransformer.serving import Translator

    run = load_run(path)
    decoding = run.config.decoding
    if beam_size is not None:
        decoding = dataclasses.replace(decoding, beam_size=beam_size)
    return Translator(run.model, run.tokenizer, decoding)


def _evaluate(options: argparse.Namespace) -> None:
    import sacrebleu

    from ktransformer.text import read_lines

    sources, references = list(read_lines(options.source)), list(read_lines(options.reference))
    _check_sides(sources, references, options.source, options.reference)
    translator = _load_translator(options.run, options.beam_size)
    options.n_best = 1
    outputs = [best for (best,) in _translate_lines(translator, sources, options)]
    bleu, chrf = sacrebleu.BLEU(tokenize=options.tokenize), sacrebleu.CHRF()
    result = {
        "bleu": round(bleu.corpus_score(outputs, [references]).score, 2),
        "chrf": round(chrf.corpus_score(outputs, [references]).score, 2),
        "signature": str(bleu.get_signature()),
        "sentences": len(sources),
        "exact_match": round(sum(map(str.__eq__, outputs, references)) / len(sources), 4),
    }
    print(json.dumps(result))


def _check_sides(first: list[str], second: list[str], *names: str) -> None:
    if len(first) != len(second):
        raise InputError(
            f"{names[0]} and {names[1]} must have the same number of lines; "
            f"got {len(first)} and {len(second)}."
        )
    if not first:
        raise InputError(f"{names[0]} is empty.")


def _score(options: argparse.Namespace) -> None:
    import tensorflow as tf

    from ktransformer.text import read_lines

    sources, targets = list(read_lines(options.source)), list(read_lines(options.target))
    _check_sides(sources, targets, options.source, options.target)
    translator = _load_translator(options.run, None)
    for i in range(0, len(sources), options.batch_size):
        chosen = slice(i, i + options.batch_size)
        scores = translator.score(tf.constant(sources[chosen]), tf.constant(targets[chosen]))
        for value, tokens in zip(
            scores["log_probability"].numpy(), scores["tokens"].numpy(), strict=True
        ):
            print(f"{value:.4f}\t{tokens}")


def _export(options: argparse.Namespace) -> None:
    from ktransformer.serving import export_saved_model

    translator = _load_translator(options.run, options.beam_size)
    print(export_saved_model(translator, options.output))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ktransformer", description="Train, use and export text-to-text Transformers."
    )
    parser.add_argument("--version", action="version", version=f"ktransformer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)

    command = _add(commands, "translate", _translate, "translate stdin to stdout, line by line")
    command.add_argument("run", metavar="RUN", help="folder of a trained run")
    _add_beam_size(command)
    command.add_argument(
        "--n-best", type=int, default=1, metavar="N", help="lines to print for each line"
    )
    _add_batch_size(command)

    command = _add(commands, "evaluate", _evaluate, "translate a file and print its BLEU and chrF")
    command.add_argument("run", metavar="RUN", help="folder of a trained run")
    command.add_argument("--source", required=True, metavar="FILE", help="texts to translate")
    command.add_argument("--reference", required=True, metavar="FILE", help="their translations")
    command.add_argument("--tokenize", default="13a", help="sacreBLEU's tokenizer")
    _add_beam_size(command)
    _add_batch_size(command)

    command = _add(
        commands, "score", _score, "print each pair's log-probability and its number of tokens"
    )
    command.add_argument("run", metavar="RUN", help="folder of a trained run")
    command.add_argument("--source", required=True, metavar="FILE", help="source texts")
    command.add_argument("--target", required=True, metavar="FILE", help="target texts")
    _add_batch_size(command)

    command = _add(commands, "export", _export, "write a model that needs no ktransformer")
    command.add_argument("run", metavar="RUN", help="folder of a trained run")
    command.add_argument(
        "--format", choices=["saved_model"], default="saved_model", help="what to write"
    )
    command.add_argument(
        "--output", required=True, metavar="DIR", help="its next free number takes the export"
    )
    _add_beam_size(command)
    return parser


def _add_train(commands: Any) -> None:
    command = _add(commands, "train", _train, "train a model on parallel text")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = _describe_settings()
    for name, text, required in (
        ("--source", "source text, a line each; .gz is unpacked; several files follow on", True),
        ("--target", "its translation, line for line", True),
        ("--validation-source", "source text to validate on", False),
        ("--validation-target", "its translation", False),
    ):
        command.add_argument(name, nargs="+", required=required, metavar="FILE", help=text)
    command.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    command.add_argument(
        "--overwrite", action="store_true", help="replace RUN if it is there (default: refuse)"
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
            f"    {name} = {'null' if value is None else str(value).lower()}"
            for name, value in values.items()
        ]
    return "\n".join(lines)


def _add(commands: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _add_beam_size(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--beam-size",
        type=int,
        metavar="K",
        help=f"places of the beam, 1 for greedy; None for the run's own, which is "
        f"{DecodingConfig().beam_size} unless set in training",
    )


def _add_batch_size(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="lines translated at once"
    )
