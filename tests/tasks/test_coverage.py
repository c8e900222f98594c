"""The coverage penalty of a translator, from the attention of its model to its exports."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.config import Config, DecodingConfig
from ktransformer.decoding import Coverage
from ktransformer.errors import InputError
from ktransformer.layers import DecoderBlock, MultiHeadCrossAttention
from ktransformer.models import Transformer
from ktransformer.tasks import TextGenerator, Translator
from ktransformer.tasks.decoding_rules import to_rules
from ktransformer.text import Tokenizer
from tests.small_models import small_generator

LINES = ["one two three four", "1 2 3 4", "nine eight seven", "abcdefghijklmnopqrstuvwxyz"]
SOURCE = np.array([[7, 8, 9, 3, 0], [20, 3, 0, 0, 0], [5, 6, 30, 31, 3]], np.int32)
PENALTY, BEAM = 0.7, 3


class FirstToken(MultiHeadCrossAttention):
    """Attends to the first token of the source alone."""

    def compute_weights(self, scores):
        return ops.cast(ops.equal(ops.cumsum(ops.ones_like(scores), axis=-1), 1), scores.dtype)


class FirstTokenBlock(DecoderBlock):
    def make_cross_attention(self):
        return FirstToken(self.num_heads, dtype=self.dtype_policy, name="cross_attention")


class FirstTokenTransformer(Transformer):
    def make_decoder_block(self):
        return FirstTokenBlock(**self.block_arguments())


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(LINES, 45)


def make_translator(tokenizer, *, kind=Transformer, beam=BEAM, **model):
    keras.utils.set_random_seed(5)
    sizes = {"num_layers": 1, "d_model": 32, "num_heads": 4, "hidden_dim": 32}
    options = {**sizes, "tie_embeddings": False, **model}
    transformer = kind(tokenizer.vocabulary_size, **options)
    transformer.build()
    for block in transformer.decoder.blocks:  # Else untrained attention is nearly uniform.
        kernel = block.cross_attention.query_projection.kernel
        kernel.assign(8 * kernel)
    decoding = DecodingConfig(
        beam_size=beam, max_length_ratio=0, max_length_offset=6, coverage_penalty=PENALTY
    )
    return Translator(transformer, tokenizer, decoding)


def coverage(translator, source, ids):
    """The formula of Wu et al. 2016, with the weights of a call on the whole target `[T]`."""
    inputs = {
        "source": source[None, source != 0],
        "target": np.array([[translator.tokenizer.special_ids.start, *ids[:-1]]]),
    }
    weights = translator.model.cross_attention_weights(inputs)[-1]
    sums = ops.convert_to_numpy(weights)[0].mean(axis=0).sum(axis=0, dtype="float64")
    return PENALTY * np.log(np.minimum(sums, 1)).sum()


def test_every_hypothesis_is_scored_by_the_attention_of_whole_calls(tokenizer):
    translator = make_translator(tokenizer, num_layers=2, num_kv_heads=2)
    found = translator.search(tf.constant(SOURCE), n_best=BEAM)
    costs = []
    for row, source in enumerate(SOURCE):
        for place in range(BEAM):
            length = int(found.lengths[row, place])
            ids = found.ids[row, place, :length].numpy()
            added = found.scores[row, place] - found.log_probabilities[row, place] / length
            costs.append(coverage(translator, source, ids))
            assert added.numpy() == pytest.approx(costs[-1], rel=1e-3, abs=1e-5)
    assert sum(cost < -0.1 for cost in costs) > BEAM


@pytest.mark.parametrize("beam", [1, BEAM])
def test_weights_that_a_subclass_computes_are_those_that_count(tokenizer, beam):
    translator = make_translator(tokenizer, kind=FirstTokenTransformer, beam=beam)
    found = translator.search(tf.constant(SOURCE))
    added = found.scores - found.log_probabilities / tf.cast(found.lengths, tf.float32)
    others = (SOURCE != 0).sum(axis=1) - 1
    np.testing.assert_allclose(added[:, 0], PENALTY * np.log(1e-9) * others, rtol=1e-4)


def test_the_setting_of_a_run_is_the_rule():
    decoding = Config().replace({"coverage_penalty": str(PENALTY)}).decoding
    assert Coverage(PENALTY) in to_rules(decoding)
    assert not any(isinstance(rule, Coverage) for rule in to_rules(DecodingConfig()))


def test_a_text_generator_has_no_source_to_cover():
    generator = small_generator()
    generator = TextGenerator(generator.model, generator.tokenizer, rules=[Coverage(0.2)])
    with pytest.raises(InputError, match=r"rules.*Coverage.*DecoderSearch"):
        generator.generate(["two"])
