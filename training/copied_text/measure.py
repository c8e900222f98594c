"""Measures how many spans of marked sentences come back, and what they cost in BLEU.

    python -m training.copied_text.measure RUN --source test.en --reference test.de

puts one to four of these into each sentence, at random places by a seed: a pair of tags around some
words, a single tag, a placeholder, a URL, emoji. It prints, for each setting of `copy`, the share
of sentences whose translation has every span verbatim and as often as the source, with tags nested
as in XML; and the BLEU of the translations without the spans, beside that of the plain sentences.
"""

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence

from ktransformer.engines import load_engine, translate_lines
from ktransformer.scores import score_texts
from ktransformer.text import read_aligned
from training.programs import exit_status

TAGS = ("b", "i", "em", "strong", "a", "span")
SINGLE = ("<br/>", "<hr/>", '<img src="x.png"/>')
PLACEHOLDERS = ("{name}", "{0}", "{count}", "%s", "%1$d", "${user}", "{{ item }}", "%(day)s")
URLS = ("https://example.org/a?b=1", "http://example.com/x_(y)", "www.example.net/news")
EMOJI = ("👍", "😀🎉", "👩‍👩‍👧", "🇩🇪", "👋🏽", "❤️")
_COPY = "tags,placeholders,urls,emails,code,emoji,unknown"


def main() -> int:
    """Prints a table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument("--source", required=True, metavar="FILE")
    parser.add_argument("--reference", required=True, metavar="FILE")
    parser.add_argument("--copy", nargs="*", default=["none", _COPY], metavar="KINDS")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args()
    return exit_status("measure", lambda: measure(options))


def measure(options: argparse.Namespace) -> None:
    """Prints the shares and scores."""
    sources, references = read_aligned(options.source, options.reference)
    marked = mark(sources, options.seed)
    texts = [text for text, _ in marked]
    plain = translate(options.run, sources, ())
    bleu = score_texts(plain, references).bleu
    print(f"{len(texts)} sentences, {sum(len(spans) for _, spans in marked)} spans")
    print("| copy | verbatim and nested | spans back | BLEU without spans | plain |")
    print("| --- | --- | --- | --- | --- |")
    for kinds in options.copy:
        chosen = () if kinds == "none" else tuple(kinds.split(","))
        found = translate(options.run, texts, chosen)
        whole = [is_whole(text, spans) for text, (_, spans) in zip(found, marked, strict=True)]
        back = [count_back(text, spans) for text, (_, spans) in zip(found, marked, strict=True)]
        share = sum(back) / sum(len(spans) for _, spans in marked)
        without = [remove(text, spans) for text, (_, spans) in zip(found, marked, strict=True)]
        score = score_texts(without, references).bleu
        whole_share = sum(whole) / len(whole)
        print(
            f"| {kinds} | {whole_share:.4f} | {share:.4f} | {score:.2f} | {bleu:.2f} |", flush=True
        )


def translate(run: str, texts: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """Translates texts with a setting of `copy`."""
    engine = load_engine(run, copy=kinds)
    return [each.text for each in translate_lines(engine, texts)]


def mark(sentences: Sequence[str], seed: int) -> list[tuple[str, list[str]]]:
    """Puts one to four spans into each sentence; returns it with its spans."""
    generator = random.Random(seed)
    return [_mark(sentence.split(), generator) for sentence in sentences]


def _mark(words: list[str], generator: random.Random) -> tuple[str, list[str]]:
    words, spans = [*words], []
    for _ in range(generator.randint(1, 4)):
        kind = generator.choice(("pair", "single", "placeholder", "url", "emoji"))
        if kind == "pair":
            name = generator.choice(TAGS)
            opening = '<a href="https://example.org">' if name == "a" else f"<{name}>"
            start, end = _choose_words(words, generator)
            words[start] = opening + words[start]
            words[end] += f"</{name}>"
            spans += [opening, f"</{name}>"]
        else:
            choices = {"single": SINGLE, "placeholder": PLACEHOLDERS, "url": URLS, "emoji": EMOJI}
            span = generator.choice(choices[kind])
            words.insert(generator.randint(0, len(words)), span)
            spans.append(span)
    return " ".join(words), spans


def _choose_words(words: list[str], generator: random.Random) -> tuple[int, int]:
    """Returns the first and the last of one to three words without a tag, or of all words."""
    count = generator.randint(1, 3)
    starts = [
        start
        for start in range(len(words) - count + 1)
        if not any("<" in word for word in words[start : start + count])
    ]
    if not starts or generator.random() < 0.2:
        return 0, len(words) - 1
    start = generator.choice(starts)
    return start, start + count - 1


def is_whole(text: str, spans: Sequence[str]) -> bool:
    """Returns whether a translation has all spans and no others, its tags nested."""
    return count_back(text, spans) == len(spans) == len(_found(text, spans)) and _is_nested(text)


def count_back(text: str, spans: Sequence[str]) -> int:
    """Counts the spans that a translation has, each at most as often as the source."""
    found = Counter(_found(text, spans))
    return sum(min(count, found[span]) for span, count in Counter(spans).items())


def _found(text: str, spans: Sequence[str]) -> list[str]:
    """Returns the spans in a text; of two that overlap the longer."""
    ordered = sorted({*spans}, key=len, reverse=True)
    found: list[str] = re.findall("|".join(map(re.escape, ordered)), text)
    return found


def _is_nested(text: str) -> bool:
    open_tags: list[str] = []
    for closing, name, alone in re.findall(r"<(/?)([a-z]+)[^<>]*?(/?)>", text):
        if closing:
            if not open_tags or open_tags.pop() != name:
                return False
        elif not alone:
            open_tags.append(name)
    return not open_tags


def remove(text: str, spans: Sequence[str]) -> str:
    """Returns a translation without its spans, and with single spaces."""
    for span in sorted({*spans}, key=len, reverse=True):
        text = text.replace(span, " " if not span.startswith("<") else "")
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
