"""Rounding to 8 bits, against a reading of it in NumPy."""

import keras
import numpy as np
import pytest

from keras_kicks.compression.fake_quantizer import FakeQuantizer

pytestmark = pytest.mark.tensorflow
# Values a little off the borders between two steps, on which one last bit decides.
NEAR = 1e-6


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def rounded(x, low, high, narrow=False):
    """Return x as the nearest of 256 (or, narrow, 255) values from low to high, one of which is zero."""
    least = 1 if narrow else 0
    scale = (np.asarray(high, "float64") - low) / (255 - least)
    zero_point = np.clip(np.round(least - low / scale), least, 255)
    return (np.clip(np.round(x / scale) + zero_point, least, 255) - zero_point) * scale


def quantizer(kind, shape=None):
    layer = keras.layers.Layer()
    return FakeQuantizer(layer, "w", kind, shape), layer


def bounds(quantizer):
    return quantizer.low.numpy(), quantizer.high.numpy()


def value_and_gradient(quantizer, x, training, jit_compile):
    import tensorflow as tf

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = quantizer(x, training)
        return y, tape.gradient(y, x)

    return tuple(part.numpy() for part in run(tf.constant(x)))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("kind", "shape", "axes"),
    [
        ("per_tensor", (7,), None),
        ("per_tensor", (5, 4), None),
        ("per_tensor", (2, 3, 4, 5, 6), None),
        ("per_channel", (5, 4), (0,)),
        ("per_channel", (3, 5, 4), (0, 1)),
        ("per_channel", (3, 3, 2, 4), (0, 1, 2)),
    ],
)
def test_weights_are_rounded_symmetrically_to_255_values(kind, shape, axes, jit_compile):
    w = drawn(*shape)
    q, _ = quantizer(kind, shape)
    largest = np.abs(w).max(axis=axes)
    y, gradient = value_and_gradient(q, w, True, jit_compile)
    np.testing.assert_allclose(y, rounded(w, -largest, largest, narrow=True), rtol=0, atol=NEAR)
    np.testing.assert_array_equal(bounds(q), [-largest, largest])
    # The largest weights may end a last bit outside of the range.
    inside = np.abs(w) < largest
    np.testing.assert_array_equal(gradient[inside], 1)
    # In inference the range stays, and what is outside of it is cut off.
    y, gradient = value_and_gradient(q, 2 * w, False, jit_compile)
    np.testing.assert_allclose(y, rounded(2 * w, -largest, largest, narrow=True), rtol=0, atol=NEAR)
    assert np.any(gradient == 0)
    np.testing.assert_array_equal(gradient[2 * np.abs(w) > 1.001 * largest], 0)
    np.testing.assert_array_equal(gradient[2 * np.abs(w) < 0.999 * largest], 1)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("kind", "axes"), [("per_tensor", None), ("per_channel", (0,))])
def test_weights_that_are_all_zero_stay_zero_and_can_be_trained(kind, axes, jit_compile):
    w = drawn(5, 3)
    w[:, 1] = 0
    w = w if axes else 0 * w
    q, _ = quantizer(kind, w.shape)
    for training in (True, False):
        y, gradient = value_and_gradient(q, w, training, jit_compile)
        np.testing.assert_allclose(y[:, 1], 0, rtol=0, atol=1e-8)
        np.testing.assert_array_equal(gradient[:, 1], 1)
    low, high = bounds(q)
    assert np.all(low < high)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_activations_are_rounded_to_256_values_of_which_one_is_zero(jit_compile):
    q, _ = quantizer("moving_average")
    x = drawn(1000, seed=1)
    for low, high in [(-1.0, 1.2), (0.0, 2.5), (-0.3, 1.1), (-2.0, 0.0)]:
        q.low.assign(low)
        q.high.assign(high)
        y, gradient = value_and_gradient(q, x, False, jit_compile)
        np.testing.assert_allclose(y, rounded(x, low, high), rtol=0, atol=NEAR)
        assert np.unique(y).size > 100
        assert np.unique(y).size <= 256
        assert np.abs(y).min() < NEAR
        # The range moves by less than half a step for zero to be one of the values.
        step = (high - low) / 255
        np.testing.assert_array_equal(gradient[(x > low + step) & (x < high - step)], 1)
        np.testing.assert_array_equal(gradient[(x < low - step) | (x > high + step)], 0)


def test_the_range_of_activations_is_a_moving_average_that_contains_zero():
    q, _ = quantizer("moving_average")
    low, high = -6.0, 6.0
    np.testing.assert_array_equal(bounds(q), [low, high])
    for x in (drawn(50, seed=1), drawn(50, seed=2) + 10, drawn(50, seed=3) - 10):
        low = 0.999 * low + 0.001 * min(x.min(), 0)
        high = 0.999 * high + 0.001 * max(x.max(), 0)
        y = q(keras.ops.convert_to_tensor(x), True).numpy()
        np.testing.assert_allclose(bounds(q), [low, high], rtol=1e-6)
        # It is rounded in the new range.
        np.testing.assert_allclose(y, rounded(x, *bounds(q)), rtol=0, atol=3e-6)
        q(keras.ops.convert_to_tensor(100 * x), False)
        np.testing.assert_allclose(bounds(q), [low, high], rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_range_of_inputs_is_the_widest_that_was_seen(jit_compile):
    q, _ = quantizer("all_values")
    y, _ = value_and_gradient(q, drawn(50), False, jit_compile)
    np.testing.assert_allclose(y, 0, atol=1e-30)
    low = high = 0.0
    for x in (0.1 * drawn(50) + 1, drawn(50) + 1, 0.1 * drawn(50) - 2):
        low, high = min(low, x.min()), max(high, x.max())
        y, _ = value_and_gradient(q, x, True, jit_compile)
        np.testing.assert_allclose(bounds(q), [low, high], rtol=0, atol=1e-30)
        np.testing.assert_allclose(y, rounded(x, low, high), rtol=0, atol=NEAR)
    value_and_gradient(q, 100 * drawn(50), False, jit_compile)
    np.testing.assert_allclose(bounds(q), [low, high], rtol=0, atol=1e-30)


def test_what_is_observed_is_not_rounded_and_its_range_is_taken_when_wanted():
    q, _ = quantizer("moving_average")
    batches = [drawn(20, seed=s) + s for s in range(3)]
    q.observe()
    for x in batches:
        np.testing.assert_array_equal(q(keras.ops.convert_to_tensor(x), False), x)
    np.testing.assert_array_equal(bounds(q), [-6, 6])
    q.settle(keep=False)
    np.testing.assert_array_equal(bounds(q), [-6, 6])
    q.observe()
    for x in batches:
        q(keras.ops.convert_to_tensor(x), False)
    q.settle(keep=True)
    low, high = np.mean([[min(x.min(), 0), max(x.max(), 0)] for x in batches], axis=0)
    np.testing.assert_allclose(bounds(q), [low, high], rtol=1e-6)
    y = q(keras.ops.convert_to_tensor(batches[0]), False)
    np.testing.assert_allclose(y, rounded(batches[0], low, high), rtol=0, atol=3e-6)


def test_what_is_always_zero_keeps_its_range():
    q, _ = quantizer("moving_average")
    q.observe()
    q(keras.ops.zeros((3,)), False)
    q.settle(keep=True)
    np.testing.assert_array_equal(bounds(q), [-6, 6])


def test_ranges_are_weights_of_the_layer_that_are_not_trained():
    _, layer = quantizer("per_channel", (5, 4))
    assert [tuple(v.shape) for v in layer.weights] == [(4,), (4,)]
    assert layer.trainable_weights == []
    assert all(v.aggregation == "mean" for v in layer.weights)
