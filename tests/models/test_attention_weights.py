"""Attention weights are those that made the outputs; a subclass that may use others is refused."""

import numpy as np
import pytest

from ktransformer.layers import (
    DecoderBlock,
    EncoderBlock,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
)
from ktransformer.models import Decoder, Encoder, Transformer, check_decoding
from tests.layers.layer_checks import array, built, normal, randomize
from tests.models.small_transformer import INPUTS, SIZES

D = 8
VECTORS, MEMORY = normal(2, 5, D), normal(2, 6, D, seed=1)


class MemoryFirst(DecoderBlock):
    """Attends to the memory before it attends to itself."""

    def call(self, inputs, memory=None, inputs_mask=None, memory_mask=None, training=None):
        def attend_to_memory(hidden):
            return self.cross_attention(hidden, memory, memory_mask=memory_mask, training=training)

        def attend_to_self(hidden):
            return self.self_attention(hidden, mask=inputs_mask, training=training)

        def feed(hidden):
            return self.feed_forward(hidden, training=training)

        hidden = self.residual("cross_attention", attend_to_memory, inputs, training)
        hidden = self.residual("self_attention", attend_to_self, hidden, training)
        return self.residual("feed_forward", feed, hidden, training)

    def step(self, inputs, cache, memory, at):
        def attend_to_memory(hidden):
            return self.cross_attention.step(hidden, memory, at)

        def attend_to_self(hidden):
            nonlocal cache
            outputs, cache = self.self_attention.step(hidden, cache, at)
            return outputs

        hidden = self.residual("cross_attention", attend_to_memory, inputs)
        hidden = self.residual("self_attention", attend_to_self, hidden)
        return self.residual("feed_forward", self.feed_forward, hidden), cache


class MemoryFirstWithWeights(MemoryFirst):
    def cross_attention_weights(self, inputs, memory, inputs_mask=None, memory_mask=None):
        seen = self.before_sublayer(self.cross_attention_norm, inputs)
        return self.cross_attention.attention_weights(seen, memory, memory_mask)


class HalvingDecoder(Decoder):
    def call_block(self, block, *inputs, **options):
        return 0.5 * super().call_block(block, *inputs, **options)


class HalvingEncoder(Encoder):
    def call_block(self, block, *inputs, **options):
        return 0.5 * super().call_block(block, *inputs, **options)


def make_model(block=DecoderBlock):
    """Makes a model with random weights, its decoder of two of the given blocks."""

    class Made(Transformer):
        def make_decoder_block(self):
            return block(**self.block_arguments())

    model = Made(**{**SIZES, "num_decoder_layers": 2, "norm_first": True})
    model.build()
    return randomize(model)


def used_weights(attentions, run):
    """Returns the weights that each attention uses while `run` is called, in that order."""
    used = []
    for attention in attentions:

        def spy(*arguments, compute=attention.compute_weights):
            weights = compute(*arguments)
            used.append(array(weights))
            return weights

        attention.compute_weights = spy
    run()
    return list(used)


def assert_returns_used(model):
    attentions = [block.cross_attention for block in model.decoder.blocks]
    used = used_weights(attentions, lambda: model(INPUTS))
    assert len(used) == 2
    for layer, expected in enumerate(used):
        for found in (
            model.cross_attention_weights(INPUTS)[layer],
            model.hidden_states_and_attention(INPUTS, layer)[1],
            model.logits_and_attention(INPUTS, layer)[1],
        ):
            np.testing.assert_allclose(array(found), expected, atol=1e-6)


def test_a_block_in_another_order_has_to_say_its_weights():
    model = make_model(MemoryFirst)
    assert check_decoding(model) < 1e-5
    message = r"MemoryFirst overrides call.* cross_attention_weights"
    with pytest.raises(NotImplementedError, match=message):
        model.cross_attention_weights(INPUTS)
    with pytest.raises(NotImplementedError, match=message):
        model.hidden_states_and_attention(INPUTS, 0)
    assert_returns_used(make_model(MemoryFirstWithWeights))


def test_a_decoder_that_calls_its_blocks_otherwise_returns_the_weights_of_that():
    model = make_model()
    model.decoder.__class__ = HalvingDecoder
    assert_returns_used(model)


def test_an_encoder_that_calls_its_blocks_otherwise_returns_the_weights_of_that():
    encoder = HalvingEncoder([EncoderBlock(2, 16) for _ in range(2)])
    built(encoder, (None, None, D))
    attentions = [block.self_attention for block in encoder.blocks]
    used = used_weights(attentions, lambda: encoder(VECTORS))
    for found, expected in zip(encoder.attention_weights(VECTORS), used, strict=True):
        np.testing.assert_allclose(array(found), expected, atol=1e-6)


ONE, TWO = [(None, None, D)], [(None, None, D)] * 2
# A class, its arguments, the shapes it is built for, a method and what it takes.
METHODS = [
    (MultiHeadSelfAttention, (2,), ONE, "attention_weights", (VECTORS,)),
    (MultiHeadCrossAttention, (2,), TWO, "attention_weights", (VECTORS, MEMORY)),
    (EncoderBlock, (2, 16), ONE, "attention_weights", (VECTORS,)),
    (DecoderBlock, (2, 16), ONE, "attention_weights", (VECTORS,)),
    (DecoderBlock, (2, 16), TWO, "cross_attention_weights", (VECTORS, MEMORY)),
    (Encoder, ([EncoderBlock(2, 16)],), ONE, "attention_weights", (VECTORS,)),
    (Decoder, ([DecoderBlock(2, 16)],), TWO, "cross_attention_weights", (VECTORS, MEMORY)),
    (Decoder, ([DecoderBlock(2, 16)],), TWO, "call_with_attention", (VECTORS, MEMORY, 0)),
]


def passing_on(parent, method):
    """Makes a subclass whose `method` calls the parent's."""

    def passes(self, *arguments, **options):
        return getattr(parent, method)(self, *arguments, **options)

    return type(f"Other{parent.__name__}", (parent,), {method: passes})


@pytest.mark.parametrize(
    ("parent", "arguments", "shapes", "method", "inputs"),
    METHODS,
    ids=[f"{parent.__name__}.{method}" for parent, _, _, method, _ in METHODS],
)
def test_a_call_of_ones_own_needs_the_weights_of_ones_own(
    parent, arguments, shapes, method, inputs
):
    """Alone it is refused; with the method, and in what is derived from both, it is not."""
    other = passing_on(parent, "call")
    both = passing_on(other, method)
    derived, again = type("Derived", (both,), {}), passing_on(both, "call")
    layer = built(parent(*arguments), *shapes)
    for subclass, refused in ((other, True), (both, False), (derived, False), (again, True)):
        layer.__class__ = subclass
        if refused:
            with pytest.raises(NotImplementedError, match=f"{subclass.__name__} .*call.* {method}"):
                getattr(layer, method)(*inputs)
        else:
            getattr(layer, method)(*inputs)


class Halved(DecoderBlock):
    """Hands half of its inputs to every sublayer."""

    def residual(self, name, sublayer, inputs, training=False):
        return super().residual(name, sublayer, 0.5 * inputs, training)


def test_another_residual_connection_has_the_weights_of_what_it_hands_on():
    block = built(Halved(2, 16), *TWO)
    attentions = [block.self_attention, block.cross_attention]
    used = used_weights(attentions, lambda: block(VECTORS, MEMORY))
    found = [block.attention_weights(VECTORS), block.cross_attention_weights(VECTORS, MEMORY)]
    for weights, expected in zip(found, used, strict=True):
        np.testing.assert_allclose(array(weights), expected, atol=1e-6)
