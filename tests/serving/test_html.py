import asyncio
import random
import re
import time

import pytest

from ktransformer.serving.html import split_html, translate_html


def _shout(found):
    """A letter as a capital; tags and entities as they are."""
    return found[1] or found[0].upper()


def shouted(content, *, copies_tags=False):
    """Translates HTML by a model that writes capitals, and tags as they are if it copies them."""

    async def translate(texts):
        return [re.sub(r"(<[^>]*>|&\w+;)|\w", _shout, text) for text in texts]

    return asyncio.run(translate_html(content, translate, copies_tags=copies_tags))


def same(content, *, copies_tags=False):
    """Translates HTML by a model that copies texts."""

    async def translate(texts):
        return texts

    return asyncio.run(translate_html(content, translate, copies_tags=copies_tags))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no markup",
        '<p class="a>b">One</p>\n<br/><p>two</p>',
        "<!doctype html><!-- c --><?php x ?><p>a &amp; b &#233; &unknown; &lt;</p>",
        "<p>never closed",
        "a < b and <3 and <b",
        "<B>Case</B><input disabled><![CDATA[x]]>",
        "<script>var a = '<p>';</script>t<style>p{}</style>",
        "<code>a</code><pre><pre>b</pre></pre>",
        "</p></code>text",
        "&amp without an end &",
        "<!-- never closed <p>x",
        "&a",
        "</>abc",
        "<![x",
        "<a title='x",
    ],
)
@pytest.mark.parametrize("keep_inline", [False, True])
def test_the_parts_make_the_page(content, keep_inline):
    parts = split_html(content, keep_inline=keep_inline)
    assert "".join(parts) == content


def test_nothing_of_any_page_is_lost():
    generator = random.Random(1)
    letters = ["<", ">", "/", "!", "--", "&", ";", "'", '"', "=", " ", "\n", "a", "b", "p", "li"]
    letters += ["code", "script", "translate=no", "[CDATA[", "]]", "?", "é"]
    for _ in range(20_000):
        content = "".join(generator.choices(letters, k=generator.randint(1, 12)))
        for keep_inline in (False, True):
            assert "".join(split_html(content, keep_inline=keep_inline)) == content


_HOSTILE = {
    piece: piece * (300_000 // len(piece))
    for piece in ("<a ", "<!--", "<", "<b>a", '<a "', "<script>", "&lt;", "<![CDATA[")
}
_HOSTILE["<br>"] = "<br>" * (2**21 // 4)
_HOSTILE["<pre><b></b>"] = "<pre>" + "<b>" * (2**20 // 7) + "</b>" * (2**20 // 7)


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_hostile_page_takes_no_longer_than_another(name):
    started = time.process_time()
    split_html(_HOSTILE[name], keep_inline=True)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("copies_tags", [False, True])
def test_a_long_run_of_spaces_takes_no_longer_than_words(copies_tags):
    page = "a" + " " * 50_000 + "b"
    started = time.process_time()
    assert same(page, copies_tags=copies_tags) == page
    assert time.process_time() - started < 3


def test_text_is_translated_and_markup_stays():
    page = '<div title="hi"><p>one <b>two</b> &amp; three</p><code>four</code></div>'
    assert shouted(page) == (
        '<div title="hi"><p>ONE <b>TWO</b> &amp; THREE</p><code>four</code></div>'
    )


def test_what_is_not_to_be_translated_stays():
    page = '<p translate="no">one <i>two</i></p><p>three</p><script>let four</script>'
    assert shouted(page) == (
        '<p translate="no">one <i>two</i></p><p>THREE</p><script>let four</script>'
    )


def test_entities_are_read_as_characters_and_written_again():
    assert shouted("<p>&eacute; &lt; &quot;&amp</p>") == '<p>É &lt; "&amp;</p>'


@pytest.mark.parametrize("copies_tags", [False, True])
def test_a_character_may_have_a_number_of_any_length(copies_tags):
    for number, character in (
        ("9" * 5000, "\ufffd"),
        ("0" * 5000 + "97", "A"),
        ("0" * 5000, "\ufffd"),
    ):
        assert shouted(f"<p>&#{number};</p>", copies_tags=copies_tags) == f"<p>{character}</p>"


def test_what_is_not_translated_ends_with_its_element_or_the_one_around_it():
    page = '<ul><li translate="NO">one<li>two</ul><p>three<p translate=no>four<p>five'
    assert shouted(page) == (
        '<ul><li translate="NO">one<li>TWO</ul><p>THREE<p translate=no>four<p>FIVE'
    )
    assert shouted("<div><pre>one<b>two</div>three") == "<div><pre>one<b>two</div>THREE"


def test_a_line_break_in_text_is_a_space():
    assert shouted("<p>\n  one\n  two\n</p>") == "<p>\n  ONE TWO\n</p>"


def test_a_model_that_copies_tags_reads_whole_sentences():
    assert split_html("<p>one <b>two</b> three</p>", keep_inline=True) == [
        "<p>", "one <b>two</b> three", "</p>"
    ]  # fmt: skip
    assert shouted("<p>one <b>two</b> &lt; &eacute;</p>", copies_tags=True) == (
        "<p>ONE <b>TWO</b> &lt; É</p>"
    )


@pytest.mark.parametrize(
    ("text", "copied", "is_kept"),
    [
        ("one <b>two</b> three", "1 </b>2<b> 3", False),
        ("<b>one <i>two</i></b>", "<b>1 <i>2</b></i>", False),
        ("<b>one</b> <i>two</i>", "<i>2</i> <b>1</b>", True),
        ("<b>one</b><br>two", "<br>2<b>1</b>", True),
        ("one</b> two <br>three", "1</b> 2 <br>3", True),  # It ends what began before the text.
        ("one</b> two <br>three", "1 <br>2 </b>3", False),
    ],
)
def test_tags_that_a_model_moves_still_nest(text, copied, is_kept):
    async def translate(texts):
        return [copied if each == text else each.upper() for each in texts]

    written = asyncio.run(translate_html(f"<p>{text}</p>", translate, copies_tags=True))
    assert written == f"<p>{copied if is_kept else shouted(text)}</p>"


def test_texts_whose_tags_were_lost_are_translated_again_at_once():
    running, most = 0, 0

    async def translate(texts):
        nonlocal running, most
        running += len(texts)
        most = max(most, running)
        await asyncio.sleep(0.2)
        running -= len(texts)
        return [re.sub("<[^>]*>", "", text).upper() for text in texts]

    page = "<p>one <b>two</b></p><p>three</p><p><i>four</i> five</p>"
    written = asyncio.run(translate_html(page, translate, copies_tags=True))
    assert written == "<p>ONE <b>TWO</b></p><p>THREE</p><p><i>FOUR</i> FIVE</p>"
    assert most == 4


def test_text_never_becomes_a_tag():
    page = "<p>one &ltx; onfocus=alert(1)&gt; &lt;script&gt;</p>"
    for copies_tags in (False, True):
        inner = shouted(page, copies_tags=copies_tags).removeprefix("<p>").removesuffix("</p>")
        assert "<" not in inner

    async def decode(texts):  # A model that writes tags of its own.
        return [text.replace("&lt;", "<").replace("&gt;", ">") for text in texts]

    written = asyncio.run(translate_html(page, decode, copies_tags=True))
    assert "<script>" not in written
