"""Measures terminologies: terms drawn from the references, how many are written, and BLEU.

    python -m training.translation.terms RUN --train train.en train.de --test val.en val.de

A term is a pair of words, one of the source and one of the reference, each of which is among the
likely translations of the other (IBM model 1, trained on the training text). Its target is a noun,
or another word with a capital letter, that does not begin the reference. Every sentence has a
terminology of its own. Two sets are translated:

- `random`: for every sentence that has one, one of its terms, drawn by chance;
- `missing`: for every sentence that has one, all terms whose target the plain translation lacks.

For each it prints the share of terms in the translations without and with the terminology, BLEU of
both against the references, and the seconds of both.
"""

import argparse
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ktransformer.engines import Engine, load_engine, translate_lines
from ktransformer.scores import score_texts
from ktransformer.text import SpecialIds
from ktransformer.text.lexicon import train_lexicon

_WORD = re.compile(r"\w+")
_SPECIAL = SpecialIds(start=2, end=3, pad=0, unknown=1)
_LIKELY = 3  # Translations of a word that are likely.
_LEAST = 3  # Times that a word must occur.


class WordLexicon:
    """Tells which words are likely translations of each other.

    Args:
        sources: Texts.
        targets: Their translations.
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self._of_sources, self._of_targets = _count_ids(sources), _count_ids(targets)
        ids = [
            [
                np.array([known[w] for w in _WORD.findall(line) if w in known], np.int32)
                for line in text
            ]
            for text, known in ((sources, self._of_sources), (targets, self._of_targets))
        ]
        sizes = [len(known) + 4 for known in (self._of_sources, self._of_targets)]
        self._forward, self._backward = (
            train_lexicon(
                ids[i],
                ids[1 - i],
                sizes[1 - i],
                special_ids=_SPECIAL,
                source_vocabulary_size=sizes[i],
                source_special_ids=_SPECIAL,
                best=_LIKELY,
            ).translations
            for i in (0, 1)
        )

    def pairs(self, source: str, target: str) -> list[tuple[str, str]]:
        """Returns the terms of a sentence and its reference."""
        words = _WORD.findall(target)
        nouns = [word for word in words[1:] if word[0].isupper() and words.count(word) == 1]
        return [
            (s, t)
            for s in dict.fromkeys(_WORD.findall(source))
            for t in nouns
            if self._are_likely(s, t)
        ]

    def _are_likely(self, source: str, target: str) -> bool:
        i, j = self._of_sources.get(source), self._of_targets.get(target)
        return i is not None and j is not None and j in self._forward[i] and i in self._backward[j]


def _count_ids(texts: Sequence[str]) -> dict[str, int]:
    """Numbers the words that occur often enough."""
    words, counts = np.unique(
        [w for text in texts for w in _WORD.findall(text)], return_counts=True
    )
    return {word: i for i, word in enumerate(words[counts >= _LEAST].tolist(), 4)}


def _measure(
    engine: Engine, name: str, chosen: dict[int, dict[str, str]], texts: Sequence[Sequence[str]]
) -> None:
    """Translates the chosen sentences with a terminology each, and prints a line."""
    sources, references = ([side[i] for i in chosen] for side in texts)
    start = time.perf_counter()
    plain = [engine.translate([source])[0] for source in sources]
    middle = time.perf_counter()
    found = [
        engine.translate_with_terms([source], terms)[0]
        for source, terms in zip(sources, chosen.values(), strict=True)
    ]
    end = time.perf_counter()
    count = sum(map(len, chosen.values()))
    before, after = (
        sum(
            term in _WORD.findall(text)
            for text, terms in zip(lines, chosen.values(), strict=True)
            for term in terms.values()
        )
        / count
        for lines in (plain, [each.text for each in found])
    )
    own = sum(each.terms_written for each in found) / count
    bleu = [score_texts(lines, references).bleu for lines in (plain, [each.text for each in found])]
    print(
        f"{name}: {len(chosen)} sentences, {count} terms; written {before:.3f} -> {after:.3f} "
        f"(terms_written {own:.3f}); BLEU {bleu[0]:.2f} -> {bleu[1]:.2f}; "
        f"seconds {middle - start:.1f} -> {end - middle:.1f}",
        flush=True,
    )
    for i in list(chosen)[:5]:
        place = list(chosen).index(i)
        print(f"  {chosen[i]}\n  {references[place]}\n  {plain[place]}\n  {found[place].text}")


def main() -> None:
    """Draws the terms and measures both sets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", help="a run, a SavedModel or a .tflite with the signature terms")
    parser.add_argument("--train", nargs=2, required=True, metavar=("SOURCE", "TARGET"))
    parser.add_argument("--test", nargs=2, required=True, metavar=("SOURCE", "TARGET"))
    parser.add_argument(
        "--bonuses",
        type=float,
        nargs="+",
        action="append",
        help="other bonuses, of a run alone; repeat it to compare some",
    )
    parser.add_argument("--sentences", type=int, default=1000, help="the most of each set")
    parser.add_argument("--beam-size", type=int)
    options = parser.parse_args()
    train, texts = (
        [Path(path).read_text(encoding="utf-8").splitlines() for path in paths]
        for paths in (options.train, options.test)
    )
    lexicon = WordLexicon(*train)
    engine = load_engine(options.run, beam_size=options.beam_size)
    draw = random.Random(1)
    pairs = [lexicon.pairs(*pair) for pair in zip(*texts, strict=True)]
    plain = [each.text for each in translate_lines(engine, texts[0])]
    sets = {
        "random": {i: dict([draw.choice(each)]) for i, each in enumerate(pairs) if each},
        "missing": {
            i: lacking
            for i, each in enumerate(pairs)
            if (lacking := {s: t for s, t in each if t not in _WORD.findall(plain[i])})
        },
    }
    for bonus in options.bonuses or [None]:
        if bonus is not None:
            engine = load_engine(options.run, beam_size=options.beam_size)
            engine.translator.term_bonuses = tuple(bonus)
        for name, chosen in sets.items():
            few = dict(list(chosen.items())[: options.sentences])
            _measure(engine, name if bonus is None else f"{name}, bonuses {bonus}", few, texts)


if __name__ == "__main__":
    main()
