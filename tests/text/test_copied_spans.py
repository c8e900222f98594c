"""Spans that a translation copies, in TensorFlow and LiteRT."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.text.code_points import to_bytes, to_code_points
from ktransformer.text.copied_spans import take_out
from ktransformer.text.restored_spans import restore
from ktransformer.text.span_symbols import SYMBOLS
from ktransformer.text.spans import KINDS, SpanFinder

_KNOWN = "".join(map(chr, range(32, 127))) + "äöüßÄÖÜ"
_KINDS = tuple(kind for kind in KINDS if kind != "numbers")


_FINDER = SpanFinder(_KINDS, _KNOWN)


def _spans(texts: list[str | bytes], *kinds: str, **options: Any) -> list[list[str]]:
    finder = SpanFinder(kinds, _KNOWN, **options) if options or kinds != _KINDS else _FINDER
    given = [text.encode() if isinstance(text, str) else text for text in texts]
    # Between texts that would go on with theirs.
    given = [each for text in given for each in (text, b"> } ` <b {x `")]
    characters = to_code_points(to_bytes(tf.constant(given)))
    found = finder.find(characters)
    whole = "".join(map(chr, characters.points.numpy()))
    spans: list[list[str]] = [[] for _ in given]
    for start, end, row in zip(*(x.numpy() for x in found[:3]), strict=True):
        spans[row].append(whole[start - row - 1 : end - row - 1])  # An edge before each text.
    return spans[::2]


_CASES: dict[str, dict[str | bytes, list[str]]] = {
    "tags": {
        "a <b>dog</b> x<br/><p>": ["<b>", "</b>", "<br/>", "<p>"],
        "if a < b or c > d, 3<4 and 5>4, <3": [],
        "<b never closed, <i>is</i>": ["<i>", "</i>"],
        '<a title="x>y">z</a>': ['<a title="x>y">', "</a>"],
        "<!-- <b>x</b> --> <!DOCTYPE html>": ["<!-- <b>x</b> -->", "<!DOCTYPE html>"],
    },
    "placeholders": {
        "{name} {0:.2f} ${x} #{y} %{z}": ["{name}", "{0:.2f}", "${x}", "#{y}", "%{z}"],
        "{{ user.name }} {% if x %}": ["{{ user.name }}", "{% if x %}"],
        "{a b} {} {n, plural, one {#}} {open": ["{#}"],
        "{a{b}c} {{a}": ["{b}", "{a}"],
        "%s %1$d %5.2f %ld %(name)s %@ %%": ["%s", "%1$d", "%5.2f", "%ld", "%(name)s", "%@", "%%"],
        "100%ig, 50 % der, 5%s, %sure": [],
    },
    "urls": {
        "See http://a.b/c_(d). (https://x.org/y?z=1) www.foo.de, ://": [
            "http://a.b/c_(d)",
            "https://x.org/y?z=1",
            "www.foo.de",
        ],
    },
    "emails": {
        "a.b+c@d-e.co.uk. @you a@b": ["a.b+c@d-e.co.uk"],
    },
    "code": {
        "`x` and ``y`` `z` and ` no": ["`x`", "``y``", "`z`"],
    },
    "emoji": {
        "👍🏽😀 🇩🇪 1️⃣ ❤️ 👩\u200d👩\u200d👧 ™️ ™ 1": [
            "👍🏽😀",
            "🇩🇪",
            "1️⃣",
            "❤️",
            "👩\u200d👩\u200d👧",
            "™️",
        ],
    },
    "unknown": {
        "Hej Müllér → Привет, мир don\u2019t ①": ["Müllér", "→", "Привет", "мир"],
        "日本語 a\x00b 👍🏽": ["日本語", "\x00", "👍🏽"],
        b"a\xff\xfeb": ["��"],
        "é \u200b": [],
    },
    "numbers": {
        "3 3.5 B2B 10:30, 1,000. 4th": ["3", "3.5", "10:30", "1,000"],
    },
}


@pytest.mark.parametrize("kind", _CASES)
def test_spans_of_a_kind_are_found(kind: str) -> None:
    cases = _CASES[kind]
    assert dict(zip(cases, _spans([*cases], kind), strict=True)) == cases


def test_spans_that_overlap_become_one() -> None:
    (spans,) = _spans(["<a href='http://x.y/{z}'> `a <b` c>"], *_KINDS)
    assert spans == ["<a href='http://x.y/{z}'>", "`a <b` c>"]


def test_symbols_of_the_tokenizer_are_no_tags() -> None:
    (spans,) = _spans(["<bt> a <b> <c1> <d>"], "tags", except_for=["<bt>"], also=["<c1>"])
    assert spans == ["<b>", "<c1>", "<d>"]


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"copy .*tags.*'tag'"):
        SpanFinder(["tag"])


_Run = Callable[[list[str], list[str]], tuple[list[str], list[str]]]


class _Graph(tf.Module):
    def __init__(self, symbols: tuple[str, ...]) -> None:
        super().__init__()
        self.finder, self.symbols = _FINDER, symbols

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, x) for x in ("texts", "translations")],
        autograph=False,
    )
    def run(self, texts: tf.Tensor, translations: tf.Tensor) -> dict[str, tf.Tensor]:
        taken, copied = take_out(self.finder, texts, self.symbols)
        has_symbols = bool(self.symbols)
        restored = restore(self.finder, translations, copied, has_symbols=has_symbols)
        return {"taken": taken, "restored": restored}


_ENGINES = ["TensorFlow", pytest.param("LiteRT", marks=pytest.mark.long)]


@pytest.fixture(scope="module", params=_ENGINES)
def with_symbols(request: pytest.FixtureRequest) -> _Run:
    """Takes spans out for a model with symbols, and puts them back."""
    return _run(request.param, SYMBOLS)


@pytest.fixture(scope="module", params=["TensorFlow", "LiteRT"])
def without_symbols(request: pytest.FixtureRequest) -> _Run:
    """Takes spans out for a model without symbols, and puts them back."""
    return _run(request.param, ())


def _run(engine: str, symbols: tuple[str, ...]) -> _Run:
    graph = _Graph(symbols)
    if engine == "TensorFlow":

        def call(**texts: np.ndarray) -> dict[str, np.ndarray]:
            tensors = {name: tf.constant(values, tf.string) for name, values in texts.items()}
            return {name: values.numpy() for name, values in graph.run(**tensors).items()}

    else:
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [graph.run.get_concrete_function()], graph
        )
        converter.allow_custom_ops = True
        call = InterpreterWithCustomOps(
            model_content=converter.convert(),
            custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
        ).get_signature_runner()

    def run(texts: list[str], translations: list[str]) -> tuple[list[str], list[str]]:
        both = (np.array([t.encode() for t in x], dtype=object) for x in (texts, translations))
        outputs = call(**dict(zip(("texts", "translations"), both, strict=True)))
        found = {name: [x.decode() for x in outputs[name].tolist()] for name in outputs}
        return [" ".join(text.split()) for text in found["taken"]], found["restored"]

    return run


_WITH_SYMBOLS = [
    # A text, what the model reads, what it writes, and the translation.
    (
        "A <b>dog</b> runs 👍.",
        "A <c0> dog <c1> runs <c2>.",
        "Ein <c0> Hund <c1> rennt <c2>.",
        "Ein <b>Hund</b> rennt 👍.",
    ),
    ("👍", "", "", "👍"),
    ("no span  here", "no span here", "kein  Span", "kein  Span"),
    (
        "Hi, {name}! See http://a.b now.",
        "Hi, <c0>! See <c1> now.",
        "Jetzt <c1> sehen, <c0>!",
        "Jetzt http://a.b sehen, {name}!",
    ),
    # A symbol that the model dropped, one that it wrote twice, and one that it made up.
    ("a {x} b {y} c", "a <c0> b <c1> c", "A B <c1> C", "A {x} B {y} C"),
    ("a {x} b", "a <c0> b", "A <c0> B <c0> <c7> C", "A {x} B C"),
    # Tags in a wrong order.
    (
        "I <b>like <i>big</i></b> dogs",
        "I <c0> like <c1> big <c2> <c3> dogs",
        "Ich <c3> mag <c1> große <c2> Hunde <c0>.",
        "Ich <b>mag <i>große</i> Hunde</b>.",
    ),
    # A pair that moves before another one.
    (
        "<b>a</b> <i>b</i>",
        "<c0> a <c1> <c2> b <c3>",
        "<c2> B <c3> <c0> A <c1>",
        "<i>B</i> <b>A</b>",
    ),
    ("<b>a</i> b", "<c0> a <c1> b", "A <c1> B <c0>", "A</i> B <b>"),
    (
        "in<b>cred</b>ible",
        "in <c0> cred <c1> ible",
        "un <c0> glaub <c1> lich",
        "un<b>glaub</b>lich",
    ),
    ("{x}{y}: (%s)", "", "", "{x}{y}: (%s)"),
]


def test_spans_come_back_at_the_places_of_their_symbols(with_symbols: _Run) -> None:
    texts, read, written, expected = (list(x) for x in zip(*_WITH_SYMBOLS[:-1], strict=True))
    assert with_symbols(texts, written) == (read, expected)


def test_more_than_ten_spans_use_the_symbols_again(with_symbols: _Run) -> None:
    spans = [f"{{{i}}}" for i in range(23)]
    text = "a " + " a ".join(spans)
    read = "a " + " a ".join(SYMBOLS[i % 10] for i in range(23))
    assert with_symbols([text], [read]) == ([read], [text])


_WITHOUT_SYMBOLS = [
    ("A <b>dog</b> runs 👍.", "A dog runs.", "Ein Hund rennt.", "Ein <b>Hund</b> rennt 👍."),
    ("👍 runs", "runs", "rennt", "👍 rennt"),
    ("Hi, {name}! Go.", "Hi,! Go.", "Hallo! Los.", "Hallo {name}! Los."),
    ("dogs run. 👍", "dogs run.", "Hunde rennen.", "Hunde rennen. 👍"),
    ("a 👍 b 😀 c", "a b c", "A B C D E F", "A B 👍 C D 😀 E F"),
    ("<p><b>a</b> b</p>", "a b", "", "<p><b></b></p>"),
    ("(👍)", "()", "()", "👍 ()"),
]


@pytest.mark.long
def test_spans_without_symbols_come_back_by_their_place(without_symbols: _Run) -> None:
    texts, read, written, expected = (list(x) for x in zip(*_WITHOUT_SYMBOLS[:-1], strict=True))
    assert without_symbols(texts, written) == (read, expected)


def test_every_span_comes_back_once_whatever_the_model_writes(with_symbols: _Run) -> None:
    _check_random_texts(with_symbols, [*SYMBOLS[:5], *"ABC.,(", "Hund"])


@pytest.mark.long
def test_every_span_comes_back_once_without_symbols(without_symbols: _Run) -> None:
    _check_random_texts(without_symbols, [*"ABC.,(", "Hund"])


def _check_random_texts(run: _Run, outputs: list[str]) -> None:
    generator = np.random.default_rng(1)
    words = [*"abc.,(", "dog", "<b>", "</b>", "<i>", "</i>", "{x}", "{y}", "👍"]

    def draw(parts: list[str]) -> str:
        chosen = [parts[i] for i in generator.integers(0, len(parts), generator.integers(0, 12))]
        return "".join(part + " " * int(generator.integers(0, 2)) for part in chosen)

    texts, written = ([draw(parts) for _ in range(200)] for parts in (words, outputs))
    _, restored = run(texts, written)
    assert len(restored) == len(texts)
    spans, written_spans, kept = (_spans(list(x), *_KINDS) for x in (texts, written, restored))
    for i, found in enumerate(spans):
        assert sorted(found) == sorted(kept[i])
        assert _visible(written[i], written_spans[i]) == _visible(restored[i], found)


def _visible(text: str, spans: list[str]) -> str:
    for span in sorted({*spans, *SYMBOLS}, key=len, reverse=True):
        text = text.replace(span, "")
    return text.replace(" ", "")


def test_no_text_gives_no_text(with_symbols: _Run) -> None:
    assert with_symbols([], []) == ([], [])
    assert with_symbols([""], [""]) == ([""], [""])
