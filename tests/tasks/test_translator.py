import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.tasks.written_texts import has_no_token
from ktransformer.text import Tokenizer
from tests.small_translator import TEXTS, strings, with_decoding


def test_a_batch_gives_what_its_texts_give_one_by_one(translator):
    together = strings(translator.translate_texts(tf.constant(TEXTS))["text"])
    alone = [strings(translator.translate_texts(tf.constant([text]))["text"])[0] for text in TEXTS]
    assert together == alone


def test_ids_are_the_tokenizers_padded_and_ended(translator):
    ids = translator.to_ids(tf.constant(["four zero two", "", "nine"]))
    ragged = translator.tokenizer.encode(tf.constant(["four zero two", "", "nine"]))
    np.testing.assert_array_equal(ids, ragged.to_tensor(default_value=0))


def test_ids_over_the_limit_are_cut_as_texts_are(translator):
    (whole,) = translator.tokenizer.encode_lines(["one " * 60])
    assert len(whole) > translator.model.max_length
    ids = translator.ids(tf.constant([whole]))["ids"]
    text = translator.translate_texts(tf.constant(["one " * 60]))["text"]
    assert strings(translator.tokenizer.decode(ids)) == strings(text)


def test_a_text_over_the_limit_is_cut_there_and_said_to_be(translator):
    limit = translator.model.max_length
    ids = translator.to_ids(tf.constant(["one " * 60]))
    assert ids.shape == (1, limit)
    assert ids[0, -1] == 3
    truncated = translator.translate_texts(tf.constant(TEXTS))["truncated"]
    assert truncated.numpy().tolist() == [text.startswith("one") for text in TEXTS]


def test_a_source_of_just_the_limit_is_not_cut(translator):
    (ids,) = translator.tokenizer.encode_lines(["four zero two"])
    for limit, cut in ((len(ids), False), (len(ids) - 1, True)):
        limited = with_decoding(translator, max_source_length=limit)
        outputs = limited.translate_texts(tf.constant(["four zero two"]))
        assert outputs["truncated"].numpy().tolist() == [cut]


def test_no_target_is_longer_than_the_limit(translator):
    limited = with_decoding(translator, max_target_length=3)
    ids = limited.ids(limited.to_ids(tf.constant(["seven seven seven one six"])))["ids"]
    assert ids.shape == (1, 3)
    assert ids[0, -1] == 3


def test_texts_without_a_token_take_one_step(translator):
    decoding = dataclasses.replace(translator.decoding, length_penalty=5.0)  # It writes on and on.
    endless = Translator(
        Transformer.from_preset("tiny", translator.tokenizer.vocabulary_size),
        translator.tokenizer,
        decoding,
    )
    assert endless.search(endless.to_ids([""])).ids.shape[2] == 1
    assert endless.search(endless.to_ids(["", "one"])).ids.shape[2] > 1


@pytest.mark.parametrize(
    ("source", "empty"),
    [
        (np.zeros([0, 0], "int32"), []),
        (np.zeros([2, 0], "int32"), [True, True]),
        ([[5, 3, 0], [3, 0, 0], [5, 7, 3], [7, 3, 0]], [True, True, False, False]),
    ],
)
def test_the_token_of_a_language_is_none_of_the_text(source, empty):
    assert has_no_token(tf.constant(source), 0, language=5).numpy().tolist() == empty


def test_a_model_that_nothing_was_asked_of_yet_translates():
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = Transformer.from_preset("tiny", tokenizer.vocabulary_size)
    translator = Translator(model, tokenizer)
    assert translator.translate_texts(tf.constant(["one"]))["text"].shape == (1,)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_tokenizer_of_another_model_is_refused(more):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    pieces = tokenizer.vocabulary_size
    model = Transformer.from_preset("tiny", pieces + more)
    with pytest.raises(InputError, match=f"{pieces} .*{pieces + more}"):
        Translator(model, tokenizer)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_length_over_the_position_table_is_refused(translator, side):
    with pytest.raises(InputError, match=f"max_{side}_length.*24.*25"):
        with_decoding(translator, **{f"max_{side}_length": 25})


def test_score_says_which_texts_were_cut(translator):
    source, target = tf.constant(["one", "one " * 60, "one"]), tf.constant(["1", "1", "1" * 60])
    assert translator.score(source, target)["truncated"].numpy().tolist() == [False, True, True]


def test_a_loop_over_encode_and_decode_step_is_the_greedy_search(translator):
    greedy = with_decoding(translator, beam_size=1)
    source = greedy.to_ids(tf.constant(TEXTS))
    expected = greedy.ids(source)["ids"].numpy()
    state = dict(greedy.encode(source))
    state.pop("limits")
    newest = tf.fill([len(TEXTS)], 2)
    chosen = []
    for index in range(expected.shape[1]):
        outputs = greedy.decode_step(newest, tf.constant(index), **state)
        logits = outputs.pop("logits").numpy()
        logits[:, :3] = -1e9
        newest = tf.constant(logits.argmax(axis=-1).astype(np.int32))
        chosen.append(newest.numpy())
        state |= outputs
    for i in (0, 2, 6):  # Texts that end by themselves, not at the limit.
        length = (expected[i] != 0).sum()
        np.testing.assert_array_equal(np.stack(chosen, axis=1)[i, :length], expected[i, :length])


def test_a_beam_of_one_has_the_translation_alone(translator):
    greedy = with_decoding(translator, beam_size=1)
    texts = tf.constant(TEXTS)
    np.testing.assert_array_equal(
        greedy.translate_texts(texts)["text"], greedy.beam(texts)["text"][:, 0]
    )


def test_sampling_is_repeatable_and_depends_on_the_seed(translator):
    texts = tf.constant(["four zero two"] * 16)

    def draw(seed: int) -> list:
        return strings(translator.sample(texts, seed=seed, temperature=3.0)["text"])

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert translator.sample([])["text"].shape == (0,)


def test_options_of_sampling_may_change_from_call_to_call(translator):
    def draw(**options) -> list:
        return strings(translator.sample(["four zero two"] * 2, **options)["text"])

    first = draw(seed=5)
    assert draw(temperature=0.01) == ["402"] * 2
    assert draw(temperature=np.float32(0.01), seed=2**31) == ["402"] * 2
    assert draw(top_k=np.int64(1), seed=np.int64(9)) == ["402"] * 2
    assert draw(seed=5) == first
