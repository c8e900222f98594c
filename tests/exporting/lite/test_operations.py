"""The operations of a decoding step in a .tflite."""

import collections

import pytest
from ai_edge_litert import schema_py_generated as schema

from ktransformer.exporting import export_lite
from ktransformer.exporting.lite.model_file import unpack
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from tests.subclasses import OneKeyTransformer

NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items()}
# Of ai-edge-litert 2.3.0. Another, such as EXPAND_DIMS or SQUEEZE, ends what XNNPACK runs at once.
TAKEN_BY_XNNPACK = {
    "ADD",
    "BATCH_MATMUL",
    "CONCATENATION",
    "FULLY_CONNECTED",
    "MEAN",
    "MUL",
    "NEG",
    "RESHAPE",
    "RSQRT",
    "SOFTMAX",
    "SPLIT",
    "SQUARED_DIFFERENCE",
    "STRIDED_SLICE",
    "SUB",
    "SUM",
    "TRANSPOSE",
}


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_further_layer_adds_only_operations_that_xnnpack_takes(beam_size, tmp_path):
    one, two = (step_operations(layers, beam_size, tmp_path) for layers in (1, 2))
    more = two - one
    assert more["FULLY_CONNECTED"] == 6
    assert set(more) <= TAKEN_BY_XNNPACK


def step_operations(
    num_layers, beam_size, folder, model_class=Transformer, **options
) -> collections.Counter:
    """Counts the operations of a step by name: those of the subgraph with the most."""
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    sizes = {"num_layers": num_layers, "d_model": 16, "num_heads": 2, "hidden_dim": 16}
    model = model_class(tokenizer.vocabulary_size, **sizes, **options)
    model.build()
    translator = Translator(model, tokenizer).with_settings(beam_size=beam_size)
    file = folder / f"{num_layers}.tflite"
    content = unpack(export_lite(translator, file, signatures=["ids"]).read_bytes())
    codes = [NAMES[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in content.operatorCodes]
    step = max(content.subgraphs[1:], key=lambda graph: len(graph.operators))
    return collections.Counter(codes[operator.opcodeIndex] for operator in step.operators)


def test_shapes_that_keras_computes_in_a_step_are_constant(tmp_path):
    """In it a `Dense` has three axes, and there is a `repeat`."""
    found = step_operations(1, 4, tmp_path, OneKeyTransformer, positions="none")
    assert found["TILE"] == 1
    assert not {"REDUCE_PROD", "PACK"} & set(found)
