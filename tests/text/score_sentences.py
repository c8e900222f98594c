"""Prints how many of the hard cases a splitter of sentences has right, by language.

    python -m tests.text.score_sentences [--splitter ours|state|pysbd] [--wrong]

`state` is tensorflow-text's `StateBasedSentenceBreaker`. `pysbd` (0.3.4) needs an environment with
that package and no TensorFlow; it is told the language, where it has it. `--wrong` prints the
cases of the development half that are wrong.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Callable

from tests.text.sentence_cases import SentenceCase, sentence_cases

_Split = Callable[[list[SentenceCase]], list[list[str]]]


def _ours(cases: list[SentenceCase]) -> list[list[str]]:
    import tensorflow as tf

    from ktransformer.text.code_points import to_bytes, to_code_points
    from ktransformer.text.sentences import find_sentences

    texts = [case.text for case in cases]
    found = find_sentences(to_code_points(to_bytes(tf.constant(texts))))
    joined = "".join(texts)
    spans = zip(found.starts.numpy(), found.ends.numpy(), strict=True)
    pieces = [joined[start:end] for start, end in spans]
    return [pieces[a:b] for a, b in itertools.pairwise(found.row_splits.numpy())]


def _state(cases: list[SentenceCase]) -> list[list[str]]:
    import tensorflow as tf
    import tensorflow_text

    breaker = tensorflow_text.StateBasedSentenceBreaker()
    found = breaker.break_sentences(tf.constant([case.text for case in cases]))
    return [[piece.decode().strip() for piece in row] for row in found.to_list()]


def _pysbd(cases: list[SentenceCase]) -> list[list[str]]:
    import pysbd
    from pysbd.languages import LANGUAGE_CODES

    found = []
    for case in cases:
        language = case.language if case.language in LANGUAGE_CODES else "en"
        segmenter = pysbd.Segmenter(language=language, clean=False)
        found.append([piece.strip() for piece in segmenter.segment(case.text)])
    return found


_SPLITTERS: dict[str, _Split] = {"ours": _ours, "state": _state, "pysbd": _pysbd}


def main() -> None:
    """Prints a line a language: right of all, in both halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splitter", choices=_SPLITTERS, default="ours")
    parser.add_argument("--wrong", action="store_true")
    options = parser.parse_args()
    cases = sentence_cases()
    right: Counter[tuple[str, bool]] = Counter()
    count: Counter[tuple[str, bool]] = Counter()
    for case, found in zip(cases, _SPLITTERS[options.splitter](cases), strict=True):
        for language in (case.language, "all"):
            count[language, case.held_back] += 1
            right[language, case.held_back] += found == case.sentences
        if options.wrong and found != case.sentences and not case.held_back:
            print(f"{case.language}: {' ‖ '.join(found)}")
    print("language  development  held back")
    for language in dict.fromkeys(language for language, _ in count):
        halves = (f"{right[language, half]:3}/{count[language, half]:3}" for half in (False, True))
        print(f"{language:8}  {'      '.join(halves)}")


if __name__ == "__main__":
    main()
