import asyncio

import pytest

from ktransformer.serving.html import split_html, translate_html


def shouted(content, *, copies_tags=False):
    """Translates HTML by a model that writes capitals, and tags as they are if it copies them."""

    async def translate(texts):
        return [text if copies_tags else text.upper() for text in texts]

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
    ],
)
@pytest.mark.parametrize("keep_inline", [False, True])
def test_the_parts_make_the_page(content, keep_inline):
    parts = split_html(content, keep_inline=keep_inline)
    assert "".join(parts) == content


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


def test_a_model_that_copies_tags_reads_whole_sentences():
    assert split_html("<p>one <b>two</b> three</p>", keep_inline=True) == [
        "<p>", "one <b>two</b> three", "</p>"
    ]  # fmt: skip
    assert shouted("<p>one <b>t</b> &lt; &eacute;</p>", copies_tags=True) == (
        "<p>one <b>t</b> &lt; é</p>"
    )
