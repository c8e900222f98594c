"""`ktransformer evaluate`: translates a file and scores the translations."""

import argparse
import json

from ktransformer.cli.engine import add_engine, open_engine, warn_of_texts

HELP = "translate a file and print its BLEU and chrF"

# Those of sacreBLEU that need no further package.
_TOKENIZERS = ("13a", "char", "intl", "none", "zh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_engine(parser)
    parser.add_argument("--source", required=True, metavar="FILE", help="texts to translate")
    parser.add_argument("--reference", required=True, metavar="FILE", help="their translations")
    parser.add_argument(
        "--tokenize", default="13a", choices=_TOKENIZERS, help="sacreBLEU's tokenizer"
    )


def run(options: argparse.Namespace) -> None:
    """Prints BLEU, chrF and the share of exact matches as one line of JSON."""
    from ktransformer.engines import translate_lines
    from ktransformer.scores import score_texts
    from ktransformer.text import read_aligned
    from ktransformer.text.unknown_characters import UnknownCharacters

    sources, references = read_aligned(options.source, options.reference)
    engine = open_engine(options)
    translations = translate_lines(engine, sources, batch_size=options.batch_size)
    unknown = UnknownCharacters(engine.description.characters, engine.description.symbols)
    unknown.add(sources)
    warn_of_texts(engine, sum(each.truncated for each in translations), unknown)
    scores = score_texts(
        [each.text for each in translations], references, tokenize=options.tokenize
    )
    result = {
        "bleu": round(scores.bleu, 2),
        "chrf": round(scores.chrf, 2),
        "signature": scores.signature,
        "sentences": len(sources),
        "exact_match": round(scores.exact_match, 4),
    }
    print(json.dumps(result))
