"""`ktransformer evaluate`: translates a file and scores the translations."""

import argparse
import json
import logging
from typing import TYPE_CHECKING, Any

from ktransformer.cli.engine import add_engine, find_batch_size, open_engine, warn_of_texts
from ktransformer.cli.options import positive
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.scores import Comparison

_log = logging.getLogger(__name__)
HELP = "translate a file and print its BLEU, chrF and TER"
EXAMPLE = "ktransformer evaluate runs/en-de --source test.en --reference test.de"

# Those of sacreBLEU that need no further package.
_TOKENIZERS = ("13a", "char", "intl", "none", "zh")
_RESAMPLES, _COMET_MODEL = 1000, "Unbabel/wmt22-comet-da"
_OF_AN_ENGINE = ("beam_size", "length_penalty", "copy", "tag", "batch_size", "threads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_engine(parser, optional=True)
    parser.add_argument("--source", required=True, metavar="FILE", help="texts to translate")
    parser.add_argument("--reference", required=True, metavar="FILE", help="their translations")
    parser.add_argument(
        "--translations",
        metavar="FILE",
        help="score these translations of the texts, a line each, in place of a MODEL's",
    )
    parser.add_argument(
        "--tokenize", default="13a", choices=_TOKENIZERS, help="sacreBLEU's tokenizer"
    )
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="compare with another model by sacreBLEU's paired bootstrap",
    )
    parser.add_argument(
        "--against-translations",
        metavar="FILE",
        help="compare with the translations of a file, a line each",
    )
    parser.add_argument(
        "--resamples",
        type=positive,
        metavar="N",
        help="resamples of the bootstrap; its seed is that of SACREBLEU_SEED, or 12345 "
        f"(default: {_RESAMPLES})",
    )
    parser.add_argument(
        "--comet",
        metavar="PROGRAM",
        help="print COMET, too, by this comet-score, as an environment of its own has it where "
        "unbabel-comet is installed",
    )
    parser.add_argument(
        "--comet-model", metavar="NAME", help=f"model of COMET (default: {_COMET_MODEL})"
    )


def run(options: argparse.Namespace) -> None:
    """Prints the scores, and the comparison with another system, as one line of JSON."""
    from ktransformer.comet import find_program, score_with_comet
    from ktransformer.scores import compare_texts, edit_rate, score_texts
    from ktransformer.text import read_aligned

    _check(options)
    program = None if options.comet is None else find_program(options.comet)
    sources, references = read_aligned(options.source, options.reference)
    others = None
    if options.against_translations is not None:
        others = read_aligned(options.source, options.against_translations)[1]
    if options.translations is not None:
        texts = read_aligned(options.source, options.translations)[1]
    else:
        texts = _translate(options, sources)
    if options.against is not None:
        others = _translate(options, sources, options.against)
    scores = score_texts(texts, references, tokenize=options.tokenize)
    ter = edit_rate(texts, references)
    if ter is None:
        _log.warning("TER is left out: a line has more than 1,000 words.")
    result: dict[str, Any] = {
        "bleu": round(scores.bleu, 2),
        "chrf": round(scores.chrf, 2),
        "ter": None if ter is None else round(ter, 2),
        "signature": scores.signature,
        "sentences": len(sources),
        "exact_match": round(scores.exact_match, 4),
    }
    if program:
        systems = [texts] if others is None else [texts, others]
        result["comet"], *rest = score_with_comet(
            program, sources, systems, references, model=options.comet_model or _COMET_MODEL
        )
        if rest:
            result["comet_against"] = rest[0]
    if others is not None:
        comparisons = compare_texts(
            texts,
            others,
            references,
            tokenize=options.tokenize,
            resamples=options.resamples or _RESAMPLES,
        )
        result["against"] = {name: _describe(each) for name, each in comparisons.items()}
    print(json.dumps(result))


def _check(options: argparse.Namespace) -> None:
    """Checks that there is one system to evaluate and at most one other, and each option's use."""
    if (options.model is None) == (options.translations is None):
        raise InputError("evaluate takes a MODEL or --translations FILE, one of the two.")
    others = options.against, options.against_translations
    if None not in others:
        raise InputError("--against and --against-translations exclude each other; got both.")
    if options.model is None and options.adapter is not None:
        raise InputError("--adapter goes with a MODEL.")
    if options.model is None and options.against is None:
        for name in _OF_AN_ENGINE:
            if getattr(options, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} goes with a MODEL or --against.")
    if options.resamples is not None and others == (None, None):
        raise InputError("--resamples goes with --against or --against-translations.")
    if options.comet_model is not None and options.comet is None:
        raise InputError("--comet-model goes with --comet.")


def _translate(
    options: argparse.Namespace, sources: list[str], other: str | None = None
) -> list[str]:
    """Translates with the model, or with an `other` one, and warns of the texts."""
    from ktransformer.engines import translate_lines
    from ktransformer.text.unknown_characters import UnknownCharacters

    engine = open_engine(options, other)
    translations = translate_lines(engine, sources, batch_size=find_batch_size(options))
    unknown = UnknownCharacters(engine.description.characters, engine.description.symbols)
    unknown.add(sources)
    warn_of_texts(engine, sum(each.truncated for each in translations), unknown)
    return [each.text for each in translations]


def _describe(comparison: "Comparison") -> dict[str, Any]:
    """Returns a comparison as the command prints it."""
    return {
        "score": round(comparison.score, 2),
        "interval": [round(end, 2) for end in comparison.interval],
        "other": round(comparison.other, 2),
        "other_interval": [round(end, 2) for end in comparison.other_interval],
        "difference": round(comparison.score - comparison.other, 2),
        "p_value": round(comparison.p_value, 4),
        "signature": comparison.signature,
    }
