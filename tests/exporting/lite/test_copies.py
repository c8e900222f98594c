"""Copies at the ends of XNNPACK's partitions, which it may leave out."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import ops

from ktransformer.exporting import export_lite
from ktransformer.exporting.lite import export
from ktransformer.exporting.lite.copies import (
    find_copies_at_ends,
    find_partitions,
    has_parted_layers,
)
from ktransformer.exporting.lite.model_file import pack, unpack
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.subclasses import (
    OneKeyCrossAttention,
    OneKeyDecoderBlock,
    OneKeySelfAttention,
    OneKeyTransformer,
    make_model,
    register,
)


class TiledHead:
    """Ends what XNNPACK runs at once with a copy: XNNPACK lacks `expand_dims` and `tile`."""

    def project_shared(self, memory):
        first = -1 if memory.shape[0] is None else memory.shape[0]
        rows = self.shared(ops.reshape(memory, (-1, memory.shape[-1])))
        both = ops.reshape(rows, (first, *ops.shape(memory)[1:-1], 2 * self.head_dim))
        return ops.split(ops.tile(ops.expand_dims(both, 1), (1, self.num_heads, 1, 1)), 2, axis=-1)


@register
class TiledSelfAttention(TiledHead, OneKeySelfAttention):
    pass


@register
class TiledCrossAttention(TiledHead, OneKeyCrossAttention):
    pass


@register
class TiledDecoderBlock(OneKeyDecoderBlock):
    def make_self_attention(self):
        return TiledSelfAttention(self.num_heads, causal=True, dtype=self.dtype_policy)

    def make_cross_attention(self):
        return TiledCrossAttention(self.num_heads, dtype=self.dtype_policy)


@register
class TiledTransformer(Transformer):
    def make_decoder_block(self):
        return TiledDecoderBlock(**self.block_arguments())


BATCHES = [(1, 5), (3, 7), (5, 9), (8, 4), (2, 20), (1, 30), (16, 12), (1, 2)]


def make_translator(model_class, beam_size=4):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = make_model(
        model_class, vocabulary_size=tokenizer.vocabulary_size, positions="none", max_length=64
    )
    return Translator(model, tokenizer).with_settings(beam_size=beam_size)


def convert(translator, folder, **options):
    file = folder / "model.tflite"
    return export_lite(translator, file, signatures=["ids"], overwrite=True, **options)


@pytest.mark.parametrize(
    ("model_class", "beam_size", "quantization"),
    [
        (Transformer, 4, "none"),
        pytest.param(Transformer, 1, "none", marks=pytest.mark.long),
        pytest.param(Transformer, 4, "float16", marks=pytest.mark.long),
        pytest.param(Transformer, 4, "dynamic_int8", marks=pytest.mark.long),
        pytest.param(OneKeyTransformer, 4, "none", marks=pytest.mark.long),
        (TiledTransformer, 4, "dynamic_int8"),
    ],
)
def test_layers_in_parts_have_no_copies_at_their_ends(
    model_class, beam_size, quantization, tmp_path
):
    translator = make_translator(model_class, beam_size)
    model = unpack(convert(translator, tmp_path, quantization=quantization).read_bytes())
    step = max(model.subgraphs[1:], key=lambda graph: len(graph.operators))
    assert len(find_partitions(model, step)) == count_partitions(model, step) > 2
    if model_class is Transformer:
        assert not has_parted_layers(model, step)
    else:
        assert [find_copies_at_ends(model, graph) for graph in model.subgraphs] == [{}] * 5


def count_partitions(model, graph):
    """Counts XNNPACK's partitions of a subgraph in an interpreter that runs this one alone."""
    alone = schema.ModelT(
        version=3, operatorCodes=model.operatorCodes, subgraphs=[graph], buffers=model.buffers
    )
    interpreter = Interpreter(model_content=pack(alone))
    for detail in interpreter.get_input_details():
        shape = [
            size if size > 0 else {0: 3, 1: 2 if len(detail["shape"]) == 4 else 8}.get(axis, 8)
            for axis, size in enumerate(detail["shape_signature"])
        ]  # Of the batch, the heads where a subclass does not tell their number, and lengths.
        interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    names = [operator["op_name"] for operator in interpreter._get_ops_details()]
    return names.count("DELEGATE")


def test_a_subclass_with_an_operation_that_xnnpack_lacks_is_right_each_time(tmp_path):
    translator = make_translator(TiledTransformer)
    assert count_wrong(translator, convert(translator, tmp_path)) == 0


@pytest.mark.long
def test_it_is_the_guard_that_leaves_no_copies_at_ends(tmp_path, monkeypatch):
    """The check of an export, left out here, may find that an unguarded file is wrong."""
    monkeypatch.setattr(export, "guard_copies", lambda model: None)
    monkeypatch.setattr(export, "check_conversion", lambda *given: None)
    model = unpack(convert(make_translator(TiledTransformer), tmp_path).read_bytes())
    assert any(find_copies_at_ends(model, graph) for graph in model.subgraphs)


def count_wrong(translator, file, interpreters=200):
    """Counts the outputs that differ from the model's, in fresh interpreters and a varied heap."""
    generator = np.random.default_rng(0)
    function = translator.lite_signature("ids", None).function
    batches = [generator.integers(4, 11, shape).astype("int32") for shape in BATCHES]
    expected = [function(source=tf.constant(batch))["score"].numpy() for batch in batches]
    content, heap, wrong = file.read_bytes(), [], 0
    for _ in range(interpreters):
        heap.append(bytearray(int(generator.integers(16, 60_000))))
        if len(heap) > 40:
            del heap[: int(generator.integers(1, 30))]
        run = Interpreter(model_content=content, num_threads=1).get_signature_runner("ids")
        for i in generator.integers(0, len(batches), 4):
            scores = run(source=batches[i])["score"]
            wrong += not np.allclose(scores, expected[i], atol=1e-3)
    return wrong
