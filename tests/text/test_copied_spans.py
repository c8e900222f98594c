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
from ktransformer.text.copied_spans import SYMBOLS, take_out
from ktransformer.text.restored_spans import restore
from ktransformer.text.spans import KINDS, SpanFinder

_KNOWN = "".join(map(chr, range(32, 127))) + "äöüßÄÖÜ"
_KINDS = tuple(kind for kind in KINDS if kind != "numbers")


_FINDER = SpanFinder(_KINDS, _KNOWN)


def _spans(text: str | bytes, *kinds: str, **options: Any) -> list[str]:
    finder = SpanFinder(kinds, _KNOWN, **options)
    given = text.encode() if isinstance(text, str) else text
    # Between other texts, for spans end with their text.
    characters = to_code_points(to_bytes(tf.constant([b"<b {x `", given, b"> } `"])))
    found = finder.find(characters)
    rows = characters.row_splits.numpy()
    whole = "".join(map(chr, characters.points.numpy()))
    at = zip(found.starts.numpy() - 2, found.ends.numpy() - 2, found.rows.numpy(), strict=True)
    spans = [(start, end) for start, end, row in at if row == 1]
    assert all(rows[1] <= start < end <= rows[2] for start, end in spans)
    return [whole[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("kind", "text", "spans"),
    [
        ("tags", "a <b>dog</b> x<br/><p>", ["<b>", "</b>", "<br/>", "<p>"]),
        ("tags", "if a < b or c > d, 3<4 and 5>4, <3", []),
        ("tags", "<b never closed, <i>is</i>", ["<i>", "</i>"]),
        ("tags", '<a title="x>y">z</a>', ['<a title="x>y">', "</a>"]),
        ("tags", "<!-- <b>x</b> --> <!DOCTYPE html>", ["<!-- <b>x</b> -->", "<!DOCTYPE html>"]),
        ("placeholders", "{name} {0:.2f} ${x} #{y} %{z}", ["{name}", "{0:.2f}", "${x}", "#{y}", "%{z}"]),
        ("placeholders", "{{ user.name }} {% if x %}", ["{{ user.name }}", "{% if x %}"]),
        ("placeholders", "{a b} {} {n, plural, one {#}} {open", ["{#}"]),
        ("placeholders", "{a{b}c} {{a}", ["{b}", "{a}"]),
        ("placeholders", "%s %1$d %5.2f %ld %(name)s %@ %%", ["%s", "%1$d", "%5.2f", "%ld", "%(name)s", "%@", "%%"]),
        ("placeholders", "100%ig, 50 % der, 5%s, %sure", []),
        ("urls", "See http://a.b/c_(d). (https://x.org/y?z=1) www.foo.de, ://", ["http://a.b/c_(d)", "https://x.org/y?z=1", "www.foo.de"]),
        ("emails", "a.b+c@d-e.co.uk. @you a@b", ["a.b+c@d-e.co.uk"]),
        ("code", "`x` and ``y`` `z` and ` no", ["`x`", "``y``", "`z`"]),
        ("emoji", "👍🏽😀 🇩🇪 1️⃣ ❤️ 👩‍👩‍👧 ™️ ™ 1", ["👍🏽😀", "🇩🇪", "1️⃣", "❤️", "👩‍👩‍👧", "™️"]),
        ("unknown", "Hej Müllér → Привет, мир don’t ①", ["Müllér", "→", "Привет", "мир"]),
        ("unknown", "日本語 a\0b 👍🏽", ["日本語", "\0", "👍🏽"]),
        ("unknown", b"a\xff\xfeb", ["\ufffd\ufffd"]),
        ("unknown", "e\u0301 \u200b", []),
        ("numbers", "3 3.5 B2B 10:30, 1,000. 4th", ["3", "3.5", "10:30", "1,000"]),
    ],
)  # fmt: skip
def test_spans_of_a_kind_are_found(kind: str, text: str | bytes, spans: list[str]) -> None:
    assert _spans(text, kind) == spans


def test_spans_that_overlap_become_one() -> None:
    assert _spans("<a href='http://x.y/{z}'> `a <b` c>", *_KINDS) == [
        "<a href='http://x.y/{z}'>",
        "`a <b` c>",
    ]


def test_symbols_of_the_tokenizer_are_no_tags() -> None:
    assert _spans("<bt> a <b>", "tags", except_for=["<bt>"]) == ["<b>"]


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
        twice = tf.gather(translations, tf.range(2 * tf.size(translations)) // 2)
        repeated = restore(self.finder, twice, copied.repeat(2), has_symbols=has_symbols)
        return {"taken": taken, "restored": restored, "repeated": repeated}


@pytest.fixture(scope="module", params=["TensorFlow", "LiteRT"])
def runs(request: pytest.FixtureRequest) -> dict[bool, _Run]:
    """Takes spans out and puts them back, by whether there are symbols."""
    return {bool(symbols): _run(request.param, symbols) for symbols in ((), SYMBOLS)}


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
        assert found["repeated"] == [text for text in found["restored"] for _ in range(2)]
        return [" ".join(text.split()) for text in found["taken"]], found["restored"]

    return run


_WITH_SYMBOLS = [
    # A text, what the model reads, what it writes, and the translation.
    ("A <b>dog</b> runs 👍.", "A <c0> dog <c1> runs <c2>.", "Ein <c0> Hund <c1> rennt <c2>.", "Ein <b>Hund</b> rennt 👍."),
    ("👍", "", "", "👍"),
    ("no span  here", "no span here", "kein  Span", "kein  Span"),
    ("Hi, {name}! See http://a.b now.", "Hi, <c0>! See <c1> now.", "Jetzt <c1> sehen, <c0>!", "Jetzt http://a.b sehen, {name}!"),
    # A symbol that the model dropped, one that it wrote twice, and one that it made up.
    ("a {x} b {y} c", "a <c0> b <c1> c", "A B <c1> C", "A {x} B {y} C"),
    ("a {x} b", "a <c0> b", "A <c0> B <c0> <c7> C", "A {x} B C"),
    # Tags in a wrong order.
    ("I <b>like <i>big</i></b> dogs", "I <c0> like <c1> big <c2> <c3> dogs", "Ich <c3> mag <c1> große <c2> Hunde <c0>.", "Ich <b>mag <i>große</i> Hunde</b>."),
    # A pair that moves before another one.
    ("<b>a</b> <i>b</i>", "<c0> a <c1> <c2> b <c3>", "<c2> B <c3> <c0> A <c1>", "<i>B</i> <b>A</b>"),
    ("<b>a</i> b", "<c0> a <c1> b", "A <c1> B <c0>", "A</i> B<b>"),
    ("in<b>cred</b>ible", "in <c0> cred <c1> ible", "un <c0> glaub <c1> lich", "un<b>glaub</b>lich"),
    ("{x}{y}: (%s)", "", "", "{x}{y}: (%s)"),
]  # fmt: skip


def test_spans_come_back_at_the_places_of_their_symbols(runs: dict[bool, _Run]) -> None:
    texts, read, written, expected = (list(x) for x in zip(*_WITH_SYMBOLS[:-1], strict=True))
    assert runs[True](texts, written) == (read, expected)


def test_more_than_ten_spans_use_the_symbols_again(runs: dict[bool, _Run]) -> None:
    spans = [f"{{{i}}}" for i in range(23)]
    text = "a " + " a ".join(spans)
    read = "a " + " a ".join(SYMBOLS[i % 10] for i in range(23))
    assert runs[True]([text], [read]) == ([read], [text])


_WITHOUT_SYMBOLS = [
    ("A <b>dog</b> runs 👍.", "A dog runs.", "Ein Hund rennt.", "Ein <b>Hund</b> rennt 👍."),
    ("👍 runs", "runs", "rennt", "👍 rennt"),
    ("Hi, {name}! Go.", "Hi,! Go.", "Hallo! Los.", "Hallo {name}! Los."),
    ("dogs run. 👍", "dogs run.", "Hunde rennen.", "Hunde rennen. 👍"),
    ("a 👍 b 😀 c", "a b c", "A B C D E F", "A B 👍 C D 😀 E F"),
    ("<p><b>a</b> b</p>", "a b", "", "<p><b></b></p>"),
    ("(👍)", "()", "()", "👍 ()"),
]  # fmt: skip


def test_spans_without_symbols_come_back_by_their_place(runs: dict[bool, _Run]) -> None:
    texts, read, written, expected = (list(x) for x in zip(*_WITHOUT_SYMBOLS[:-1], strict=True))
    assert runs[False](texts, written) == (read, expected)


def test_every_span_comes_back_once_whatever_the_model_writes(runs: dict[bool, _Run]) -> None:
    generator = np.random.default_rng(1)
    words = [*"abc.,(", "dog", "<b>", "</b>", "<i>", "</i>", "{x}", "%s", "👍", "`y`", "a@b.de"]
    outputs = [*SYMBOLS[:5], *"ABC.,(", "Hund"]

    def draw(parts: list[str]) -> str:
        chosen = [parts[i] for i in generator.integers(0, len(parts), generator.integers(0, 12))]
        return "".join(part + " " * int(generator.integers(0, 2)) for part in chosen)

    for has_symbols in (False, True):
        texts = [draw(words) for _ in range(200)]
        written = [draw(outputs if has_symbols else outputs[5:]) for _ in range(200)]
        _, restored = runs[has_symbols](texts, written)
        for text, translation, result in zip(texts, written, restored, strict=True):
            assert sorted(_each_span(text)) == sorted(_each_span(result))
            letters = [c for c in _without_spans(translation) if c in "ABCHund.,("]
            assert letters == [c for c in _without_spans(result) if c in "ABCHund.,("]


def _each_span(text: str) -> list[str]:
    characters = to_code_points(to_bytes(tf.constant([text])))
    found = _FINDER.find(characters)
    return [
        text[a - 1 : b - 1] for a, b in zip(found.starts.numpy(), found.ends.numpy(), strict=True)
    ]


def _without_spans(text: str) -> str:
    for span in sorted({*_each_span(text), *SYMBOLS}, key=len, reverse=True):
        text = text.replace(span, " ")
    return text


def test_no_text_gives_no_text(runs: dict[bool, _Run]) -> None:
    assert runs[True]([], []) == ([], [])
    assert runs[False]([""], [""]) == ([""], [""])
