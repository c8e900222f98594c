"""A subclass that decodes otherwise than it is trained is found."""

import keras
import numpy as np
import pytest
from keras import ops

from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.layers import (
    DecoderBlock,
    MaskPenalty,
    MultiHeadCrossAttention,
    MultiHeadSelfAttention,
    PositionalEmbedding,
)
from ktransformer.models import Transformer, check_decoding
from ktransformer.models.decoder import Decoder
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.layers.layer_checks import randomize
from tests.small_run import number_pairs

SIZES = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 24, "max_length": 12}


def make_model(vocabulary_size=13, *, block=DecoderBlock, subclass=Transformer, **options):
    """Makes a small model with random weights, its decoder of the given blocks."""

    class Made(subclass):
        def make_decoder_block(self):
            return block(**self.block_arguments())

    model = Made(vocabulary_size, **{**SIZES, **options})
    model.build()
    return randomize(model)


def block_with(**parts):
    """Makes a class of blocks with another `self_attention` or `cross_attention`."""

    class Block(DecoderBlock):
        def make_self_attention(self):
            return parts.get("self_attention", MultiHeadSelfAttention)(self.num_heads, causal=True)

        def make_cross_attention(self):
            return parts.get("cross_attention", MultiHeadCrossAttention)(self.num_heads)

    return Block


class Gated(MultiHeadCrossAttention):
    """Multiplies its outputs by a gate that the inputs decide."""

    def make_projections(self, input_dim, memory_dim):
        super().make_projections(input_dim, memory_dim)
        self.gate = self.make_dense(self.d_model, input_dim, "gate")

    def call(self, inputs, memory, memory_mask=None, training=None):
        outputs = super().call(inputs, memory, memory_mask=memory_mask, training=training)
        return outputs * ops.sigmoid(self.gate(inputs))


class GatedSteps(Gated):
    def step(self, inputs, memory, at):
        return super().step(inputs, memory, at) * ops.sigmoid(self.gate(inputs))


class ForgetsItsGate(Gated):
    def step(self, inputs, memory, at):
        return super().step(inputs, memory, at)


class SeesPadding(MultiHeadCrossAttention):
    def step(self, inputs, memory, at):
        return super().step(inputs, memory, at._replace(memory_penalty=0 * at.memory_penalty))


class SeesOtherHypotheses(MultiHeadSelfAttention):
    def step(self, inputs, cache, at):
        own = keras.tree.map_structure(
            lambda x: ops.min(x, axis=1, keepdims=True) + 0 * x, at.penalty
        )
        return super().step(inputs, cache, at._replace(penalty=own))


class ForgetsThePast(MultiHeadSelfAttention):
    def step(self, inputs, cache, at):
        past = ops.full_like(at.penalty.past, 1e9) if cache.past else ()
        return super().step(
            inputs, cache, at._replace(penalty=MaskPenalty(past, at.penalty.recent))
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_first": True, "tie_embeddings": False, "positions": "learned"},
        {"positions": "none", "num_decoder_layers": 2},
        {"pad_id": 5, "scale_embeddings": False},
        {
            "norm": "rms",
            "norm_first": True,
            "feed_forward": "swiglu",
            "use_bias": False,
            "positions": "rotary",
            "num_kv_heads": 1,
        },
        {"positions": "relative", "feed_forward": "geglu"},
        {"positions": "alibi"},
        {"max_length": 1},
        {"source_vocabulary_size": 3},
        {"source_vocabulary_size": 200, "tie_embeddings": False},
        {"output_bias": True},
        {"output_bias": True, "tie_embeddings": False, "dtype": "mixed_bfloat16"},
        {"dtype": "mixed_float16"},
        {"dtype": "mixed_bfloat16", "norm_first": True},
    ],
    ids=str,
)
def test_what_the_library_offers_decodes_as_it_is_trained(options):
    difference = check_decoding(make_model(**options), columns=True)
    assert difference < {"mixed_float16": 5e-3, "mixed_bfloat16": 4e-2}.get(
        options.get("dtype"), 1e-5
    )


@pytest.mark.long
@pytest.mark.parametrize("preset", ["tiny", "base"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_presets_decode_as_they_are_trained(preset, dtype):
    model = Transformer.from_preset(preset, 8000, dtype=dtype)
    limit = {"float32": 1e-5, "mixed_float16": 5e-3, "mixed_bfloat16": 4e-2}[dtype]
    assert check_decoding(model) < limit


def test_a_gate_that_only_call_applies_is_refused_by_name():
    tokenizer = number_tokenizer()
    model = make_model(tokenizer.vocabulary_size, block=block_with(cross_attention=Gated))
    with pytest.raises(NotImplementedError, match=r"Gated .*call.* step"):
        check_decoding(model)
    with pytest.raises(InputError, match=r"Gated .*call.* step"):
        Translator(model, tokenizer)


def test_a_gate_that_step_applies_too_passes():
    assert check_decoding(make_model(block=block_with(cross_attention=GatedSteps))) < 1e-5


@pytest.mark.parametrize(
    "part",
    [
        {"cross_attention": ForgetsItsGate},
        {"cross_attention": SeesPadding},
        {"self_attention": SeesOtherHypotheses},
        {"self_attention": ForgetsThePast},
    ],
    ids=lambda part: next(iter(part.values())).__name__,
)
def test_a_step_that_does_something_else_is_found(part):
    model = make_model(block=block_with(**part))
    with pytest.raises(ValueError, match=r"\d.* position \d"):
        check_decoding(model)


def test_the_position_and_the_size_of_the_difference_are_named():
    class LateBias(Transformer):
        def step(self, ids, index, state, memory, columns=None):
            logits, state = super().step(ids, index, state, memory, columns)
            return logits + (100.0 if index == 1 else 0.0), state

    model = make_model(subclass=LateBias)
    with pytest.raises(ValueError, match=r"100.*position 1"):
        check_decoding(model)
    assert check_decoding(model, tolerance=1e6) > 1


class SoftCapped(PositionalEmbedding):
    def logits(self, hidden):
        return ops.tanh(super().logits(hidden))


class SoftCappedTransformer(Transformer):
    def make_embedding(self, name):
        return SoftCapped(self.vocabulary_size, self.d_model, max_length=self.max_length)


def test_other_logits_decode_but_not_with_a_shortlist():
    model = make_model(subclass=SoftCappedTransformer)
    assert check_decoding(model) < 1e-5
    with pytest.raises(ValueError, match="differ by up to"):
        check_decoding(model, columns=True)


def passing_on(parent, method):
    """Makes a subclass whose `method` calls the parent's."""

    def passes(self, *arguments, **options):
        return getattr(parent, method)(self, *arguments, **options)

    return type(f"Other{parent.__name__}", (parent,), {method: passes})


# A parent, the methods of whole sequences, and the one that decodes in their stead.
WHOLE_METHODS = [
    (MultiHeadSelfAttention, ("call",), "step"),
    (MultiHeadCrossAttention, ("call",), "step"),
    (DecoderBlock, ("call",), "step"),
    (Decoder, ("call", "call_block"), "step"),
    (Transformer, ("call", "hidden_states"), "step"),
    (PositionalEmbedding, ("call",), "embed"),
]


def put_in(model, parent, subclass):
    """Gives the model's parts of class `parent` the class `subclass` instead."""
    block = model.decoder.blocks[0]
    parts = (block, block.self_attention, block.cross_attention, model.decoder)
    for part in (*parts, model.target_embedding):
        if type(part) is parent:
            part.__class__ = subclass


@pytest.mark.parametrize(
    ("parent", "method", "counterpart"),
    [(parent, method, step) for parent, methods, step in WHOLE_METHODS for method in methods],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_step_refuses_to_pass_over_another_method_of_whole_sequences(parent, method, counterpart):
    """Alone it is refused; with its counterpart, and in what is derived from both, it is not."""
    other = passing_on(parent, method)
    both = passing_on(other, counterpart)
    derived, again = type("Derived", (both,), {}), passing_on(both, method)
    for subclass, refused in ((other, True), (both, False), (derived, False), (again, True)):
        model = Transformer(13, **SIZES) if parent is not Transformer else subclass(13, **SIZES)
        model.build()
        put_in(model, parent, subclass)
        memory, state = model.prepare_memory(np.array([[4, 3]])), model.empty_state(1, 2)
        if refused:
            name = subclass.__name__
            with pytest.raises(NotImplementedError, match=f"{name} .*{method}.* {counterpart}"):
                model.step(np.array([2]), 0, state, memory)
        else:
            model.step(np.array([2]), 0, state, memory)


def number_tokenizer():
    lines = [line for pair in number_pairs(300, seed=1) for line in pair]
    return Tokenizer.train(lines, vocabulary_size=60)


@pytest.mark.parametrize("export", [export_saved_model, export_lite])
def test_an_export_of_a_step_that_does_something_else_is_refused(export, tmp_path):
    tokenizer = number_tokenizer()
    block = block_with(cross_attention=ForgetsItsGate)
    translator = Translator(make_model(tokenizer.vocabulary_size, block=block), tokenizer)
    with pytest.raises(InputError, match=r"\d.* position \d"):
        export(translator, tmp_path / "export")
    assert not list(tmp_path.iterdir())
