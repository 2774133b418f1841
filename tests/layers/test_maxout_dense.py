"""MaxoutDense: what it computes, what it can represent, and what it learns."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import Maxout, MaxoutDense


def test_values_are_those_of_the_definition():
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    layer = MaxoutDense(6, 3, bias_initializer="normal")
    layer.build(x.shape)
    kernel, bias = (ops.convert_to_numpy(w) for w in (layer.kernel, layer.bias))
    pieces = [x @ kernel[:, 6 * i : 6 * i + 6] + bias[6 * i : 6 * i + 6] for i in range(3)]
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), np.max(pieces, axis=0), rtol=1e-5, atol=1e-5)


def test_it_is_a_dense_layer_and_a_strided_maxout():
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    layer, dense = MaxoutDense(6, 3), keras.layers.Dense(18)
    layer.build(x.shape)
    dense.build(x.shape)
    dense.set_weights(layer.get_weights())
    expected = Maxout(3, grouping="strided")(dense(x))
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), ops.convert_to_numpy(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("pieces", "function"), [([1.0, 0.0], lambda x: np.maximum(x, 0)), ([1.0, -1.0], np.abs)])
def test_it_represents_relu_and_the_absolute_value(pieces, function):
    layer = MaxoutDense(1, 2)
    layer.build((None, 1))
    layer.set_weights([np.array([pieces]), np.zeros(2)])
    x = np.linspace(-2, 2, 41)[:, None].astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), function(x))


@pytest.mark.slow
def test_it_learns_the_square():
    """The best maximum of k lines misses x^2 on [-1, 1] by 1 / (2 k^2); training comes within four times that."""
    pieces = 4
    x = np.linspace(-1, 1, 401)[:, None].astype("float32")
    model = keras.Sequential([keras.Input((1,)), MaxoutDense(1, pieces)])
    # Every line starts as the tangent at a place of its own: one that wins nowhere would have no gradient.
    places = np.linspace(-0.4, 0.4, pieces)
    model.layers[0].set_weights([2 * places[None], -(places**2)])
    bound = 4 / (2 * pieces**2)
    assert np.abs(ops.convert_to_numpy(model(x)) - x**2).max() > 2 * bound
    epochs = 100
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, epochs * 4)), "mse")
    model.fit(x, x**2, batch_size=101, epochs=epochs, verbose=0)
    assert np.abs(ops.convert_to_numpy(model(x)) - x**2).max() < bound


def test_the_picture_shows_the_weights():
    """|x| on a line through two inputs: a V with its tip in the middle of the tile."""
    layer = MaxoutDense(1, 2)
    layer.build((None, 2))
    layer.set_weights([np.array([[3.0, -3.0], [4.0, -4.0]]), np.zeros(2)])
    (image,) = layer.tensorboard_images().values()
    assert image.shape == (96, 96, 3)
    assert image.min() >= 0
    assert image.max() <= 1
    dark = image.sum(axis=-1) < 1.2
    lowest = {column: np.flatnonzero(dark[:, column]).max() for column in range(10, 86) if dark[:, column].any()}
    tip = max(lowest, key=lowest.get)
    assert abs(tip - 47.5) <= 2
    left, right = lowest[tip - 30], lowest[tip + 30]
    assert abs(left - right) <= 2
    assert left < lowest[tip] - 20


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 2), ValueError, "expected units >= 1; got units=0."),
        ((2, 0), ValueError, "expected pool_size >= 1; got pool_size=0."),
        ((2.5, 2), TypeError, "expected an integer for units; got units=2.5."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"MaxoutDense: {message}")):
        MaxoutDense(*arguments)


def test_an_unknown_number_of_inputs_is_refused():
    message = "MaxoutDense: expected an input of rank 2 or more whose last dimension is known; got input_shape="
    with pytest.raises(ValueError, match=re.escape(message)):
        MaxoutDense(2, 2)(keras.Input((None,)))
