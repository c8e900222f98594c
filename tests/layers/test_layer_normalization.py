import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.layers import DecoderBlock, LayerNormalization
from ktransformer.models import Transformer


def pair_of_norms(shape, **options):
    """Ours and Keras', with the same random weights."""
    norms = LayerNormalization(**options), keras.layers.LayerNormalization(**options)
    random = np.random.default_rng(1)
    for norm in norms:
        norm.build(shape)
    norms[0].set_weights([random.normal(size=weight.shape) for weight in norms[0].weights])
    norms[1].set_weights(norms[0].get_weights())
    return norms


def outputs_and_gradients(norm, inputs, upstream, **arguments):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = norm(inputs, **arguments)
        loss = tf.reduce_sum(tf.cast(outputs, "float32") * upstream)
    return outputs, *tape.gradient(loss, [inputs, *(weight.value for weight in norm.weights)])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 16), (2, 5, 16), (2, 3, 5, 16)])
def test_outputs_and_gradients_are_those_of_keras(shape, training):
    ours, theirs = pair_of_norms(shape, epsilon=1e-3)
    random = np.random.default_rng(2)
    inputs = tf.constant(random.normal(2.0, 3.0, shape), "float32")
    upstream = tf.constant(random.normal(size=shape), "float32")
    expected = outputs_and_gradients(theirs, inputs, upstream)
    found = outputs_and_gradients(ours, inputs, upstream, training=training)
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_equal_inputs_have_a_finite_gradient():
    norm, _ = pair_of_norms((2, 8), epsilon=1e-5)
    found = outputs_and_gradients(norm, tf.ones((2, 8)), tf.ones((2, 8)), training=True)
    assert all(np.isfinite(array).all() for array in found)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_normed_in_float32(policy):
    ours, theirs = pair_of_norms((4, 64), dtype=policy)
    inputs = tf.cast(tf.random.stateless_normal((4, 64), (1, 2)) + 100.0, ours.compute_dtype)
    outputs = ours(inputs, training=True)
    assert outputs.dtype == ours.compute_dtype
    np.testing.assert_allclose(
        tf.cast(outputs, "float32"), tf.cast(theirs(inputs), "float32"), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("options", [{"axis": 1}, {"axis": (1, 2)}, {"scale": False}])
def test_other_norms_are_left_to_keras(options):
    ours, theirs = pair_of_norms((2, 3, 4), **options)
    inputs = tf.random.stateless_normal((2, 3, 4), (1, 2))
    np.testing.assert_array_equal(ours(inputs, training=True), theirs(inputs))


def test_it_is_precise_where_the_mean_is_large():
    ours, _ = pair_of_norms((64, 128))
    inputs = np.random.default_rng(3).normal(1000.0, 0.1, (64, 128)).astype("float32")
    exact = inputs.astype("float64")
    exact = exact - exact.mean(axis=-1, keepdims=True)
    exact /= np.sqrt(np.mean(exact**2, axis=-1, keepdims=True) + ours.epsilon)
    exact = exact * ours.gamma.numpy() + ours.beta.numpy()
    for training in True, False:
        np.testing.assert_allclose(ours(inputs, training=training), exact, atol=2e-3)


def test_an_export_has_fewer_operations_than_with_keras_own():
    def count(norm):
        signature = [tf.TensorSpec((None, 7, 16))]
        function = tf.function(norm, input_signature=signature).get_concrete_function()
        return len(function.graph.get_operations())

    ours, theirs = pair_of_norms((None, 7, 16))
    assert count(ours) < count(theirs)


def test_blocks_and_models_have_it_and_restore_it():
    block = DecoderBlock(2, 8)
    block.build((None, None, 4), (None, None, 4))
    norms = [block.self_attention_norm, block.cross_attention_norm, block.feed_forward_norm]
    norms.append(Transformer.from_preset("tiny", 20, norm_first=True).encoder.final_norm)
    restored = [keras.layers.deserialize(keras.layers.serialize(norm)) for norm in norms]
    assert all(type(norm) is LayerNormalization for norm in [*norms, *restored])
    assert [norm.epsilon for norm in restored] == [norm.epsilon for norm in norms]


def kept_for_the_gradient(norm, **arguments):
    """Counts the tensors as large as the inputs that the gradient needs of the forward pass."""

    @tf.function(input_signature=[tf.TensorSpec((None, 16)), tf.TensorSpec((None, 16))])
    def step(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = norm(inputs, **arguments)
        tf.identity(outputs, "end_of_the_forward_pass")
        return tape.gradient(outputs, inputs, upstream)

    operations = step.get_concrete_function().graph.get_operations()
    names = [operation.name for operation in operations]
    end = names.index("end_of_the_forward_pass")
    forward = {tensor.ref() for operation in operations[:end] for tensor in operation.outputs}
    used = {tensor.ref() for operation in operations[end + 1 :] for tensor in operation.inputs}
    return sum(ref.deref().shape.as_list() == [None, 16] for ref in forward & used)


def test_a_training_step_keeps_less():
    ours, theirs = pair_of_norms((None, 16))
    # The normed inputs and the upstream gradient; Keras' also needs its intermediate steps.
    assert kept_for_the_gradient(ours, training=True) <= 3 < kept_for_the_gradient(theirs)
