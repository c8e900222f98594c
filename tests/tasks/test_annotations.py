"""Scores, alignment and texts of tokens: what a translator says of given translations."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.config import DecodingConfig
from ktransformer.errors import InputError
from ktransformer.layers import DecoderBlock, MultiHeadCrossAttention
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.tasks.annotations import annotate
from tests.small_translator import drawn_translator

SOURCES = ["four zero two", "nine", "seven seven seven one six"]
TARGETS = ["402", "9 9 9 9", "7"]
SHORT = DecodingConfig(beam_size=3, max_length_ratio=1, max_length_offset=3)


class FirstToken(MultiHeadCrossAttention):
    """Attends to the first token of the source alone."""

    def compute_weights(self, scores):
        return ops.cast(ops.equal(ops.cumsum(ops.ones_like(scores), axis=-1), 1), scores.dtype)


class FirstTokenTransformer(Transformer):
    def make_decoder_block(self):
        return FirstTokenBlock(**self.block_arguments())


class FirstTokenBlock(DecoderBlock):
    def make_cross_attention(self):
        return FirstToken(self.num_heads, dtype=self.dtype_policy, name="cross_attention")


class PassingOnBlock(DecoderBlock):
    def call(self, inputs, memory=None, inputs_mask=None, memory_mask=None, training=None):
        return super().call(inputs, memory, inputs_mask, memory_mask, training)

    def step(self, *arguments, **options):
        return super().step(*arguments, **options)


class PassingOnTransformer(Transformer):
    def make_decoder_block(self):
        return PassingOnBlock(**self.block_arguments())


class Doubled(Transformer):
    def hidden_states(self, inputs, training=None):
        return 2 * super().hidden_states(inputs, training=training)

    def step(self, *arguments, **options):
        raise NotImplementedError


class Colder(Transformer):
    def call(self, inputs, training=None):
        return 3 * super().call(inputs, training=training)

    def step(self, *arguments, **options):
        raise NotImplementedError


@pytest.fixture(scope="module")
def translator():
    made = drawn_translator(SHORT, num_layers=3)
    for block in made.model.decoder.blocks:  # Else drawn attention is nearly uniform.
        kernel = block.cross_attention.query_projection.kernel
        kernel.assign(8 * kernel)
    return made


@pytest.fixture(scope="module")
def annotated(translator):
    return {name: array.numpy() for name, array in translator.annotate(SOURCES, TARGETS).items()}


def with_settings(translator: Translator, **settings) -> Translator:
    decoding = dataclasses.replace(translator.decoding, **settings)
    return Translator(translator.model, translator.tokenizer, decoding)


def test_scores_of_tokens_add_up_to_the_score_of_the_text(translator, annotated):
    whole = translator.score(SOURCES, TARGETS)["log_probability"]
    sums = annotated["log_probability"].sum(axis=1)
    np.testing.assert_allclose(sums, whole, atol=1e-4)
    assert annotated["log_probability"].shape == annotated["tokens"].shape


def test_scores_of_the_search_s_own_ids_add_up_to_its_log_probability(translator):
    source = translator.to_ids(SOURCES)
    best = translator.search(source, n_best=3)
    for place in range(3):
        found = annotate(translator, source, best.ids[:, place])
        sums = tf.reduce_sum(found["log_probability"], axis=1)
        np.testing.assert_allclose(sums, best.log_probabilities[:, place], atol=1e-4)


@pytest.mark.parametrize("kind", [pytest.param(Doubled, marks=pytest.mark.long), Colder])
def test_a_subclass_that_overrides_the_pass_is_scored_by_its_own(kind):
    translator = drawn_translator(num_layers=2)
    model = kind.from_config(translator.model.get_config())
    model.build()
    model.set_weights(translator.model.get_weights())
    source = translator.to_ids(SOURCES)
    labels, _ = translator.tokenizer.encode_dense(tf.constant(TARGETS), 30)
    inputs = {"source": source, "target": tf.pad(labels, [[0, 0], [1, 0]], constant_values=2)}
    translator.model = model
    found = annotate(translator, source, labels)["log_probability"]
    logits = ops.log_softmax(model(inputs)[:, :-1], axis=-1)
    expected = tf.gather(logits, labels, batch_dims=2) * tf.cast(labels != 0, tf.float32)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_tokens_are_the_pieces_of_the_texts(translator, annotated):
    for row, text in enumerate(SOURCES):
        pieces = [piece.decode() for piece in annotated["source_tokens"][row]]
        ids = translator.tokenizer.encode_lines([text])[0]
        assert pieces[: len(ids)] == translator.tokenizer.pieces(ids)
        assert set(pieces[len(ids) :]) <= {""}
    last = [[piece for piece in row if piece][-1] for row in annotated["tokens"].tolist()]
    assert last == [b"</s>"] * 3


def test_weights_are_the_mean_attention_of_the_last_block(translator, annotated):
    source = translator.to_ids(SOURCES)
    labels, _ = translator.tokenizer.encode_dense(tf.constant(TARGETS), 30)
    start = translator.tokenizer.special_ids.start
    target = np.concatenate([np.full((3, 1), start), labels[:, :-1]], axis=1)
    layers = translator.model.cross_attention_weights({"source": source, "target": target})
    real = (labels.numpy() != 0)[:, :, None]
    for settings, layer, heads in (
        ({}, 2, 4),
        ({"alignment_layer": 1, "alignment_heads": 2}, 1, 2),
    ):
        other = with_settings(translator, **settings)
        found = annotate(other, source, labels)["weights"]
        expected = layers[layer].numpy()[:, :heads].mean(axis=1) * real
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_shifted_weights_are_those_of_the_position_that_reads_the_token(translator):
    source = translator.to_ids(SOURCES)
    labels, _ = translator.tokenizer.encode_dense(tf.constant(TARGETS), 30)
    options = {"alignment_layer": 1}
    plain = annotate(with_settings(translator, **options), source, labels)["weights"]
    shifted = with_settings(translator, **options, alignment_shift=True)
    shifted = annotate(shifted, source, labels)["weights"]
    lengths = (labels.numpy() != 0).sum(axis=1)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(shifted[row, : length - 1], plain[row, 1:length], atol=1e-6)


def test_the_aligned_token_has_the_most_weight(annotated):
    np.testing.assert_array_equal(annotated["alignment"], annotated["weights"].argmax(axis=2))
    real = annotated["tokens"] != b""
    np.testing.assert_allclose(annotated["weights"].sum(axis=2), real, atol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_later_tokens_change_nothing(translator, shifted):
    translator = with_settings(translator, alignment_shift=shifted)
    source = translator.to_ids(SOURCES)
    target = np.array([[7, 8, 9, 10, 3]] * 3, np.int32)
    changed = np.where(np.arange(5) > 1, target + 4, target).astype(np.int32)
    first, second = (annotate(translator, source, ids) for ids in (target, changed))
    for name in ("log_probability", "weights"):
        np.testing.assert_allclose(first[name][:, :2], second[name][:, :2], atol=1e-5)
        assert np.abs(first[name] - second[name]).max() > 1e-3


def test_padding_changes_nothing(translator, annotated):
    for row, pair in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = translator.annotate(*([text] for text in pair))
        for name, array in alone.items():
            part = annotated[name][row : row + 1]
            part = part[tuple(slice(0, size) for size in array.shape)]
            if array.dtype == tf.float32:
                np.testing.assert_allclose(array, part, atol=1e-5)
            else:
                np.testing.assert_array_equal(array, part)


def test_weights_that_a_subclass_computes_are_those_that_align():
    translator = drawn_translator(model_class=FirstTokenTransformer, num_layers=2)
    found = translator.annotate(SOURCES, TARGETS)
    real = found["tokens"].numpy() != b""
    np.testing.assert_allclose(found["weights"][:, :, 0], real, atol=1e-6)
    assert not found["alignment"].numpy().any()


def test_a_model_that_may_attend_otherwise_is_not_aligned():
    translator = drawn_translator(model_class=PassingOnTransformer, num_layers=2)
    with pytest.raises(InputError, match=r"PassingOnBlock .*call.* cross_attention_weights"):
        translator.annotate(SOURCES, TARGETS)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"alignment_layer": 3}, "alignment_layer.* 2 .*3"),
        ({"alignment_heads": 5}, "heads.* 4 .*5"),
    ],
)
def test_heads_that_the_model_lacks_are_refused(translator, settings, most):
    with pytest.raises(InputError, match=most):
        with_settings(translator, **settings)
