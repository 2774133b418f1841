"""Other values in place of variables: what the layer reads, and what is left after it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.ops.substitution import substituted


def array(x):
    return np.array(ops.convert_to_numpy(x))


def built(layer, *shape):
    layer.build(shape)
    return layer


def test_the_layer_reads_the_values_and_keeps_its_own():
    dense = built(layers.Dense(4, bias_initializer="normal"), None, 3)
    x, before = np.eye(3, dtype="float32"), [array(w) for w in dense.weights]
    with substituted(dense, [(dense.kernel, ops.ones((3, 4)) * 5)], lambda loss: None):
        y = dense(x)
    np.testing.assert_allclose(array(y), 5 + np.broadcast_to(before[1], (3, 4)), rtol=1e-6)
    for weight, old in zip(dense.weights, before, strict=True):
        np.testing.assert_array_equal(array(weight), old)
    np.testing.assert_allclose(array(dense(x)), before[0] + before[1], rtol=1e-5, atol=1e-6)


def test_variables_are_restored_after_an_error():
    dense = built(layers.Dense(4), None, 3)
    before = array(dense.kernel)
    with (
        pytest.raises(RuntimeError, match="inside"),
        substituted(dense, [(dense.kernel, ops.zeros((3, 4)))], lambda loss: None),
    ):
        raise RuntimeError("inside")
    np.testing.assert_array_equal(array(dense.kernel), before)
    np.testing.assert_allclose(array(dense(np.eye(3, dtype="float32"))), before, rtol=1e-6)


def test_losses_are_handed_on():
    dense = built(layers.Dense(4, activity_regularizer=keras.regularizers.L1(0.5)), None, 3)
    losses = []
    with substituted(dense, [(dense.kernel, ops.ones((3, 4)))], losses.append):
        dense(np.ones((2, 3), "float32"))
    # 0.5 times two rows of four threes; newer versions of Keras divide by the batch of two.
    (loss,) = losses
    assert float(array(loss)) in (0.5 * 2 * 4 * 3, 0.5 * 2 * 4 * 3 / 2)
    assert dense.losses == []


def test_states_that_the_layer_assigns_are_kept():
    norm = built(layers.BatchNormalization(momentum=0.5), None, 3)
    with substituted(norm, [(norm.gamma, ops.ones((3,)) * 2)], lambda loss: None):
        norm(np.full((4, 3), 6.0, "float32"), training=True)
    np.testing.assert_allclose(array(norm.moving_mean), [3, 3, 3])
    np.testing.assert_array_equal(array(norm.gamma), [1, 1, 1])


def test_a_random_layer_advances_its_seed():
    dropout = layers.Dropout(0.5, seed=1)
    x, outputs = np.ones((1, 200), "float32"), []
    for _ in range(2):
        with substituted(dropout, [], lambda loss: None):
            outputs.append(array(dropout(x, training=True)))
    assert np.any(outputs[0] != outputs[1])


def test_states_of_a_recurrent_layer_are_kept():
    rnn = built(layers.SimpleRNN(4, stateful=True), 2, 3, 5)
    kernel = rnn.cell.kernel
    with substituted(rnn, [(kernel, kernel.value)], lambda loss: None):
        y = rnn(np.ones((2, 3, 5), "float32"))
    np.testing.assert_allclose(array(rnn.states[0]), array(y), rtol=1e-6)


@pytest.mark.tensorflow
def test_the_gradient_flows_through_the_value():
    import tensorflow as tf

    dense = built(layers.Dense(2, use_bias=False), None, 3)
    x, mask = np.random.default_rng(0).normal(size=(4, 3)).astype("float32"), np.array([[0, 1], [2, 0], [3, 4.0]])
    with tf.GradientTape() as tape, substituted(dense, [(dense.kernel, dense.kernel.value * mask)], lambda loss: None):
        y = dense(x)
    gradient = tape.gradient(y, dense.kernel.value)
    np.testing.assert_allclose(gradient, x.sum(axis=0)[:, None] * mask, rtol=1e-5)
