"""Measures the alignment error rate of a translator, or of links in a file, on the hand-made links.

python -m training.alignment.measure RUN --source val.en --target val.de
python -m training.alignment.measure --links eflomal.txt
"""

import argparse
from pathlib import Path

from ktransformer.engines import ModelEngine, load_translator
from training.alignment.links import Links, Reference, error_rate, read_links, read_references

REFERENCES = Path(__file__).with_name("val_links.tsv")


def links_of(engine: ModelEngine, pairs: list[tuple[str, str]]) -> list[Links]:
    """Returns the links of words that a translator gives to each pair."""
    sources, targets = zip(*pairs, strict=True)
    return [set(each.words) for each in engine.annotate(sources, targets)]


def report(name: str, references: list[Reference], found: list[Links]) -> None:
    """Prints a line of the table."""
    rates = " | ".join(f"{rate:.3f}" for rate in error_rate(references, found))
    print(f"| {name} | {rates} |")


def main() -> None:
    """Reads the command line and prints the error rates, the precisions and the recalls."""
    parser = argparse.ArgumentParser(description="Measure the alignment error rate.")
    parser.add_argument("run", nargs="?", help="folder of a translator")
    parser.add_argument("--source", help="source side of Multi30k's validation text")
    parser.add_argument("--target", help="its target side")
    parser.add_argument("--links", nargs="*", default=[], help="links of all its pairs, by line")
    options = parser.parse_args()
    references = read_references(REFERENCES)
    for path in options.links:
        links = read_links(path)
        report(path, references, [links[reference.line - 1] for reference in references])
    if options.run is None:
        return
    lines = [Path(path).read_text().splitlines() for path in (options.source, options.target)]
    pairs = [(lines[0][each.line - 1], lines[1][each.line - 1]) for each in references]
    translator = load_translator(options.run)
    report("as the run is set", references, links_of(ModelEngine(translator), pairs))
    for layer in range(translator.model.num_decoder_layers):
        for shift in (False, True):
            settings = {"alignment_layer": layer, "alignment_heads": None, "alignment_shift": shift}
            engine = ModelEngine(translator.with_settings(**settings))
            name = f"block {layer}, {'reading' if shift else 'predicting'}"
            report(name, references, links_of(engine, pairs))


if __name__ == "__main__":
    main()
