"""Recurrent layers with weights to compare, for the tests of this folder."""

import keras
import numpy as np
from keras import ops

SHAPE = (3, 6, 4)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def array(x):
    return np.array(ops.convert_to_numpy(x))


def some_mask():
    """A mask with holes, a row that begins with masked steps, and a row that is masked altogether."""
    mask = np.array([[1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0], [0] * 6], "bool")
    return ops.convert_to_tensor(mask)


def filled(layer, like=None, shape=SHAPE):
    """Build a layer; give it random weights, or those of another layer."""
    if not layer.built:
        layer.build(shape)
    if like is not None:
        for own, other in zip(layer.trainable_variables, like.trainable_variables, strict=True):
            own.assign(other)
    else:
        for seed, variable in enumerate(layer.trainable_variables):
            variable.assign(0.5 * normal(*variable.shape, seed=seed))
    return layer


def expect_same(results, expected, **tolerance):
    """Compare nested tensors."""
    results, expected = keras.tree.flatten(results), keras.tree.flatten(expected)
    assert len(results) == len(expected)
    for a, b in zip(results, expected, strict=True):
        np.testing.assert_allclose(array(a), array(b), **{"rtol": 1e-5, "atol": 1e-6, **tolerance})


def gradients(layer, x, **arguments):
    """Return the gradients of a fixed sum of the outputs by the inputs and the weights (TensorFlow)."""
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = keras.tree.flatten(layer(x, **arguments))
        value = sum(tf.reduce_sum(y * normal(*y.shape, seed=9)) for y in outputs)
    return tape.gradient(value, [x, *(v.value for v in layer.trainable_variables)])
