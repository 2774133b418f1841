"""DropConnect with a mask for each sample, and with Gaussian inference."""

from math import erf, pi, sqrt

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import DropConnect
from keras_kicks.ops import dropconnect


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def wrapped(units=4, rate=0.5, **arguments):
    dense = {"activation": arguments.pop("activation", None), "kernel_initializer": arguments.pop("kernel", "normal")}
    return DropConnect(keras.layers.Dense(units, **dense), rate, seed=1, **arguments)


def test_every_example_has_a_mask_of_its_own():
    layer = wrapped(30, mask="sample", kernel="ones")
    x = np.zeros((6, 5), "float32")
    x[:, 2] = 1.0
    masks = ops.convert_to_numpy(layer(x, training=True))
    assert set(np.unique(masks)) == {0.0, 2.0}
    assert len({row.tobytes() for row in masks}) == 6


def test_positions_of_an_example_share_its_mask():
    x = np.repeat(drawn(3, 1, 5), 4, axis=1)
    y = ops.convert_to_numpy(wrapped(mask="sample")(x, training=True))
    np.testing.assert_allclose(y, np.repeat(y[:, :1], 4, axis=1), rtol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("chunk", [1, 3 * 4 * 5, 10**6])
@pytest.mark.parametrize("shape", [(7, 5), (7, 2, 5)])
def test_gradients_are_those_of_the_same_masks_held_at_once(monkeypatch, chunk, shape):
    """However many masks are held at a time: the masks of unit vectors, read off, explain outputs and gradients."""
    import tensorflow as tf

    monkeypatch.setattr(dropconnect, "CHUNK", chunk)
    layer = wrapped(mask="sample")
    layer.build(shape)
    kernel, seed = layer.layer.kernel, layer.seed_generator.state

    def outputs(x, kernel):
        seed.assign([5, 6])
        old = layer.layer.kernel.numpy()
        layer.layer.kernel.assign(kernel)
        y = layer(x, training=True).numpy()
        layer.layer.kernel.assign(old)
        return y

    # y_bu = sum_i x_bi W_iu M_biu: the i-th unit vector for every example, with a kernel of ones, reads M_bi off.
    units = [np.zeros(shape, "float32") for _ in range(5)]
    for i, x in enumerate(units):
        x[..., i] = 1.0
    masks = np.stack([outputs(x, np.ones((5, 4))).reshape(7, -1, 4)[:, 0] for x in units], axis=1)
    assert set(np.unique(masks)) == {0.0, 2.0}
    x, upstream = drawn(*shape), np.random.default_rng(1).normal(size=(*shape[:-1], 4)).astype("float32")
    seed.assign([5, 6])
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = layer(inputs, training=True)
        value = tf.reduce_sum(y * upstream)
    dx, dkernel = tape.gradient(value, [inputs, kernel.value])
    flat, dy = x.reshape(7, -1, 5), upstream.reshape(7, -1, 4)
    weights = masks * kernel.numpy()
    np.testing.assert_allclose(y.numpy().reshape(7, -1, 4), np.einsum("bpi,biu->bpu", flat, weights), atol=1e-5)
    np.testing.assert_allclose(dx.numpy().reshape(7, -1, 5), np.einsum("bpu,biu->bpi", dy, weights), atol=1e-5)
    np.testing.assert_allclose(dkernel.numpy(), np.einsum("bpi,bpu,biu->iu", flat, dy, masks), atol=1e-5)


def test_an_empty_batch_stays_empty():
    assert tuple(wrapped(mask="sample")(np.zeros((0, 5), "float32"), training=True).shape) == (0, 4)


def test_gaussian_inference_has_the_mean_of_relu_of_a_gaussian():
    """E[relu(u)] = mean Phi(mean / s) + s phi(mean / s) for u ~ N(mean, s^2): Wan et al. sample the same."""
    x = drawn(3, 5)
    samples = 20_000
    layer = wrapped(activation="relu", inference="gaussian", samples=samples, rate=0.25)
    got = ops.convert_to_numpy(layer(x))
    kernel = ops.convert_to_numpy(layer.layer.kernel).astype("float64")
    mean, deviation = x @ kernel, np.sqrt(0.25 / 0.75 * (x**2) @ (kernel**2))
    ratio = mean / deviation
    density = np.exp(-(ratio**2) / 2) / sqrt(2 * pi)
    below = (1 + np.vectorize(erf)(ratio / sqrt(2))) / 2
    expected = mean * below + deviation * density
    assert np.all(np.abs(got - expected) < 5 * deviation / np.sqrt(samples))


def test_gaussian_inference_of_a_linear_layer_is_its_mean():
    x = drawn(3, 5)
    layer = wrapped(inference="gaussian")
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), ops.convert_to_numpy(layer.layer(x)))


def test_gaussian_inference_of_a_convolution_takes_its_sums():
    """With one position under the kernel the sums are those of a dense layer."""
    x = drawn(3, 1, 1, 5)
    conv = DropConnect(keras.layers.Conv2D(4, 1, activation="tanh"), 0.5, inference="gaussian", samples=4000, seed=1)
    dense = DropConnect(keras.layers.Dense(4, activation="tanh"), 0.5, inference="gaussian", samples=4000, seed=1)
    conv.build(x.shape)
    dense.build((3, 5))
    dense.layer.set_weights([ops.convert_to_numpy(conv.layer.kernel)[0, 0], np.zeros(4)])
    got, expected = ops.convert_to_numpy(conv(x))[:, 0, 0], ops.convert_to_numpy(dense(x[:, 0, 0]))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_gaussian_inference_draws_anew():
    layer = wrapped(activation="relu", inference="gaussian")
    x = drawn(3, 5)
    assert np.any(ops.convert_to_numpy(layer(x)) != ops.convert_to_numpy(layer(x)))
