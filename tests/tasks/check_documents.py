"""Shows that documents are translated as their sentences are, in every engine.

    python -m tests.tasks.check_documents --source test.en RUN SAVED_MODEL FILE.tflite

Each model translates the lines of the source one by one, in batches, and then documents that
are put together from them (see `random_documents`). A document counts if its translation is, byte
for byte, the translations of its sentences with the separators of the source.
"""

import argparse
import time

from ktransformer.engines import Engine, load_engine, translate_lines
from ktransformer.text import read_lines
from tests.tasks.random_documents import RandomDocument, random_documents

_AT_ONCE = 20  # Documents of a request.


def count_equal(
    engine: Engine, sentences: list[str], documents: list[RandomDocument]
) -> tuple[int, list[str]]:
    """Returns how many documents are translated as their sentences are, and the others' texts."""
    translations = [each.text for each in translate_lines(engine, sentences)]
    texts = [document.join(sentences) for document in documents]
    found = [
        each.text
        for start in range(0, len(texts), _AT_ONCE)
        for each in engine.translate_document(texts[start : start + _AT_ONCE])
    ]
    wrong = [
        text
        for document, text, got in zip(documents, texts, found, strict=True)
        if got != document.join(translations)
    ]
    return len(texts) - len(wrong), wrong


def single_sentences(engine: Engine, lines: list[str]) -> list[str]:
    """Returns the lines that are one sentence each, as `find_sentences` has it."""
    found = engine.translate_document(lines)
    return [
        line
        for line, document in zip(lines, found, strict=True)
        if [each.source for each in document.sentences] == [line]
    ]


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--source", required=True)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lines = sorted({line.strip() for line in read_lines(options.source) if line.strip()})
    for path in options.models:
        engine = load_engine(path)
        sentences = single_sentences(engine, lines)
        documents = random_documents(sentences, options.documents, options.seed)
        begin = time.perf_counter()
        equal, wrong = count_equal(engine, sentences, documents)
        print(
            f"{path}: {equal} of {len(documents)} documents, "
            f"{sum(len(each.sentences) for each in documents)} sentences from {len(sentences)} of "
            f"{len(lines)} lines, {time.perf_counter() - begin:.0f} s",
            *map(repr, wrong[:3]),
            sep="\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
