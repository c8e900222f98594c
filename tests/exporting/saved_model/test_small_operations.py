"""Small operations that TensorFlow does not give to oneDNN."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from ktransformer.exporting import export_saved_model
from ktransformer.exporting.saved_model.small_operations import keep_from_onednn
from tests.small_run import number_pairs
from tests.small_translator import drawn_translator, with_decoding

TEXTS = [source for source, _ in number_pairs(5, seed=3)]


@pytest.fixture(scope="module")
def translator():
    return with_decoding(drawn_translator(), beam_size=3)


@pytest.fixture(scope="module")
def exported(translator, tmp_path_factory):
    names = ["serving_default", "ids", "score"]
    return export_saved_model(translator, tmp_path_factory.mktemp("model"), signatures=names)


def functions_of(path):
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0].graph_def.library.function


def order_of(node, nodes):
    """Returns the order into which a transposition puts the axes, if that is constant."""
    order = nodes.get(node.input[1].split(":")[0])
    return tf.make_ndarray(order.attr["value"].tensor).tolist() if order is not None else None


def control_inputs_of(path):
    """Returns what some operation must wait for without taking its output, in order."""
    nodes = [node for function in functions_of(path) for node in function.node_def]
    return sorted(name for node in nodes for name in node.input if name.startswith("^"))


def operations_of(path):
    return [node.op for function in functions_of(path) for node in function.node_def]


def test_onednn_takes_no_product_of_a_loop_and_no_transposition_of_heads(exported):
    heads, matrices, products = set(), 0, set()
    for function in functions_of(exported):
        in_loop = "while_body" in function.signature.name
        products |= {(in_loop, node.op) for node in function.node_def if "BatchMatMul" in node.op}
        nodes = {node.name: node for node in function.node_def}
        for node in function.node_def:
            if node.op == "Transpose" and order_of(node, nodes) == [0, 2, 1, 3]:
                heads.add(node.attr["T"].type)
            elif node.op == "BatchMatMulV3":
                right = nodes.get(node.input[1].split(":")[0])
                transposes = right is not None and right.op == "Transpose"
                matrices += transposes and order_of(right, nodes) == [0, 1, 3, 2]
    assert heads == {types_pb2.DT_INT32}
    assert products == {(True, "BatchMatMulV3"), (False, "BatchMatMulV2")}  # Those are encoders'.
    assert matrices == 0


class Transpositions(tf.Module):
    """Transpositions and products as a model of a user's own may have them."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None] * 4, tf.float32, "inputs"),
            tf.TensorSpec([4], tf.int32, "order"),
        ]
    )
    def run(self, inputs, order):
        heads = tf.transpose(inputs, [0, 2, 1, 3])
        axes = tf.constant([0, 2, 1, 3])
        with tf.control_dependencies([tf.debugging.assert_positive(tf.size(inputs))]):
            guarded = tf.transpose(inputs, axes)
        with tf.control_dependencies([guarded]):
            after = tf.identity(inputs)
        return {
            "heads": heads,
            "twice": tf.transpose(heads, [0, 2, 1, 3]),
            "by_an_input": tf.transpose(inputs, order),
            "after": after,
            **self.products(inputs),
        }

    def products(self, inputs):
        """Returns products that a loop of one step makes."""
        names = ("matrices", "left", "right", "of_heads", "back", "half")

        def step(index, *_):
            heads = tf.transpose(inputs, [0, 2, 1, 3])
            matrices = tf.transpose(inputs, [0, 1, 3, 2])
            half = tf.cast(inputs, tf.bfloat16)
            return (
                index + 1,
                matrices,
                tf.matmul(matrices, inputs),
                tf.matmul(inputs, matrices),
                tf.matmul(heads, tf.transpose(heads, [0, 1, 3, 2])),
                tf.matmul(inputs, tf.transpose(matrices, [0, 1, 3, 2]), transpose_b=True),
                tf.cast(tf.matmul(half, half, transpose_b=True), tf.float32),
            )

        start = (tf.constant(0), *(tf.zeros([]) for _ in names))
        shapes = (tf.TensorShape([]), *(tf.TensorShape(None) for _ in names))
        _, *found = tf.while_loop(lambda index, *_: index < 1, step, start, shape_invariants=shapes)
        return dict(zip(names, found, strict=True))


def test_other_transpositions_and_products_stay_the_same(tmp_path):
    module = Transpositions()
    tf.saved_model.save(module, str(tmp_path), signatures=module.run)
    before = control_inputs_of(tmp_path)
    keep_from_onednn(tmp_path, "saved_model.pb")
    assert operations_of(tmp_path).count("BatchMatMulV3") == 4
    assert control_inputs_of(tmp_path) == before
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    given = {"inputs": tf.constant(inputs), "order": tf.constant([0, 2, 1, 3])}
    found = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](**given)
    for name, expected in module.run(**given).items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)


def test_a_session_runs_it(exported, translator):
    source = translator.to_ids(tf.constant(TEXTS)).numpy()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = loaded.signature_def["ids"]
        inputs = {signature.inputs["source"].name: source}
        found = session.run(signature.outputs["ids"].name, inputs)
    np.testing.assert_array_equal(found, translator.ids(source)["ids"])


def test_the_fingerprint_is_that_of_the_graph(exported, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "fingerprint.pb").unlink()
    fingerprinting_utils.write_fingerprint(str(copy))
    read = tf.saved_model.experimental.read_fingerprint
    assert read(str(exported)).saved_model_checksum == read(str(copy)).saved_model_checksum
