import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tensorflow_text

from ktransformer.errors import InputError
from ktransformer.text import SpecialIds, Tokenizer
from tests.text.own_ids import (
    PAIRS,
    make_sides,
    make_tokenizer,
    run_in_lite,
    train_pieces,
    with_bytes,
)

SOURCES, TARGETS = (list(side[:50]) for side in zip(*PAIRS, strict=True))


@pytest.fixture(scope="module")
def sides():
    return make_sides()


def ids_by_package(model, table, text):
    """Looks up the pieces of the sentencepiece package in a table."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [table[piece] for piece in processor.encode_as_pieces(text)] + [table["</s>"]]


def test_a_tokenizer_has_the_special_ids_of_its_model():
    tokenizer = make_tokenizer()
    assert tokenizer.special_ids == SpecialIds(start=7, end=11, pad=20, unknown=0, mask=None)
    dense, cut = tokenizer.encode_dense(tf.constant(["four", "", "nine nine nine"]), 3)
    assert dense[1].numpy().tolist() == [11, 20, 20]
    assert cut.numpy().tolist() == [False, False, True]
    assert dense[2, -1] == 11
    assert tokenizer.decode(dense)[:2].numpy().tolist() == [b"four", b""]
    assert tokenizer.lite_obstacle is None


def test_the_ordinary_ids_are_all_but_the_special_ones():
    tokenizer = make_tokenizer()
    expected = np.setdiff1d(np.arange(tokenizer.vocabulary_size), [0, 7, 11, 20])
    np.testing.assert_array_equal(tokenizer.ordinary_ids, expected)


def test_a_table_gives_each_piece_its_id(sides):
    source_model, target_model, table = sides
    for model, texts in ((source_model, SOURCES), (target_model, TARGETS)):
        tokenizer = Tokenizer.from_table(model, table)
        expected = [ids_by_package(model, table, text) for text in texts]
        assert tokenizer.encode(tf.constant(texts)).to_list() == expected


def test_the_start_of_a_table_without_one_is_one_more_id(sides):
    source_model, _, table = sides
    tokenizer = Tokenizer.from_table(source_model, table)
    last = len(table) - 1
    assert tokenizer.special_ids == SpecialIds(start=last + 1, end=0, pad=last, unknown=1)
    assert tokenizer.vocabulary_size == len(table) + 1


def test_a_target_tokenizer_decodes_pieces_of_the_source(sides):
    source_model, target_model, table = sides
    source, target = (Tokenizer.from_table(model, table) for model in (source_model, target_model))
    texts = ["four zero two", "nine"]
    decoded = target.decode(source.encode(tf.constant(texts)))
    assert [text.decode() for text in decoded.numpy()] == texts


def test_pieces_that_the_table_lacks_count_as_unknown_and_keep_their_part(sides):
    source_model, _, table = sides
    processor = sentencepiece.SentencePieceProcessor(model_proto=source_model)
    pieces = processor.encode_as_pieces("four zero two")
    names = [name for name in table if name != pieces[1]]
    smaller = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer.from_table(source_model, smaller)
    (ids,) = tokenizer.encode(tf.constant(["four zero two"])).to_list()
    assert ids == [smaller.get(piece, 1) for piece in pieces] + [smaller["</s>"]]
    assert tokenizer.vocabulary_size == len(smaller) + 1


def test_the_plain_and_the_fast_form_of_a_table_agree(sides):
    source_model, _, table = sides
    tokenizer, texts = Tokenizer.from_table(source_model, table), tf.constant(SOURCES)
    assert tokenizer.lite_obstacle is None
    plain = tensorflow_text.SentencepieceTokenizer(tokenizer.model, add_eos=True)
    assert plain.tokenize(texts).to_list() == tokenizer.encode(texts).to_list()


def test_a_tokenizer_of_a_table_is_saved_as_one_model(sides, tmp_path):
    tokenizer = Tokenizer.from_table(sides[0], sides[2])
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = Tokenizer.load(tmp_path / "tokenizer.model")
    assert loaded.sha256 == tokenizer.sha256
    assert loaded.special_ids == tokenizer.special_ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"</s>": 500}, "table of .* 0 to"), ({"<pad>": None}, "table .*<pad>")],
    ids=["a gap", "no padding"],
)
def test_a_table_with_a_gap_or_without_a_special_piece_is_refused(sides, changes, message):
    table = {name: i for name, i in {**sides[2], **changes}.items() if i is not None}
    with pytest.raises(InputError, match=message):
        Tokenizer.from_table(sides[0], table)


def test_a_table_for_a_model_of_another_kind_is_refused():
    model = train_pieces(SOURCES, 50, model_type="bpe")
    with pytest.raises(InputError, match=r"unigram.*BPE"):
        Tokenizer.from_table(model, {"<pad>": 0, "<unk>": 1, "</s>": 2})


@pytest.mark.parametrize("special", [{"pad": 2}, {"end": 9}, {"unknown": -1}])
def test_special_ids_that_are_equal_or_outside_the_vocabulary_are_refused(special):
    with pytest.raises(InputError, match="special ids"):
        SpecialIds(**special).checked(9)


def table_of(*pieces, sides):
    """The table of two sides with more pieces."""
    table = dict(sides[2])
    for piece in pieces:
        table.setdefault(piece, len(table))
    return table


@pytest.mark.parametrize(
    ("text", "run"),
    [("four ж", ["ж"]), ("four жщ", ["жщ"]), ("four жд", ["<unk>"]), ("four щ", ["<unk>"])],
    ids=["a character", "a whole piece", "a piece and more", "a part of a piece"],
)
def test_a_run_of_unknown_characters_is_looked_up_whole(sides, text, run):
    """As Hugging Face looks up the surface that SentencePiece gives for such a run."""
    table = table_of("ж", "жщ", "rд", sides=sides)
    tokenizer = Tokenizer.from_table(sides[0], table)
    (ids,) = tokenizer.encode(tf.constant([text])).to_list()
    assert ids[-1 - len(run) : -1] == [table[piece] for piece in run]
    expected = [table.get(piece, 1) for piece in surfaces(sides[0], text)] + [table["</s>"]]
    assert ids == expected


def surfaces(model, text):
    return sentencepiece.SentencePieceProcessor(model_proto=model).encode_as_pieces(text)


def test_pieces_that_only_the_table_has_are_decoded(sides):
    table = table_of("ж", "жщ", "rд", "▁жд", sides=sides)
    tokenizer = Tokenizer.from_table(sides[0], table)
    ids = [[table[piece] for piece in ("▁жд", "<unk>", "жщ", "rд", "</s>")]]
    assert tokenizer.decode(tf.constant(ids)).numpy()[0].decode() == "жджщrд"


def test_a_language_token_is_one_piece_at_the_start_of_a_text(sides):
    table = table_of(">>por<<", ">>deu<<", sides=sides)
    tokenizer = Tokenizer.from_table(sides[0], table)
    tokens, plain = tokenizer.encode(tf.constant([">>por<< four two", "four two"])).to_list()
    assert tokens == [table[">>por<<"], *plain]
    assert tokenizer.language_id("deu") == table[">>deu<<"]
    assert tokenizer.decode(tf.constant([tokens])).numpy()[0] == b">>por<< four two"
    with pytest.raises(InputError, match=r"target_language.*deu.*'xyz'"):
        tokenizer.language_id("xyz")


def test_litert_encodes_and_decodes_with_a_table_as_tensorflow(sides):
    table = table_of("ж", "жщ", "rд", ">>por<<", sides=sides)
    tokenizer = Tokenizer.from_table(sides[0], table)
    texts = [">>por<< four жщ", "жщдд four rд", "", "two 日本 ж", "ж", "жж two"]
    lite, dense = run_in_lite(tokenizer, texts), tokenizer.encode_dense(tf.constant(texts), 200)[0]
    np.testing.assert_array_equal(lite["ids"], dense)
    np.testing.assert_array_equal(lite["texts"], tokenizer.decode(dense))


def test_unknown_bytes_are_pieces_of_a_table_with_byte_fallback(sides):
    model = with_bytes(sides[0])
    table = table_of("ж", *(f"<0x{i:02X}>" for i in range(256)), sides=sides)
    tokenizer = Tokenizer.from_table(model, table)
    texts = ["four ж日", "two"]
    assert tokenizer.lite_obstacle
    expected = [[table[p] for p in surfaces(model, text)] + [table["</s>"]] for text in texts]
    ids = tokenizer.encode(tf.constant(texts))
    assert ids.to_list() == expected
    assert [text.decode() for text in tokenizer.decode(ids).numpy()] == texts
