"""Layers as sequences of simpler ones: what they compute, and what they keep of the layer."""

import keras
import numpy as np
import pytest

from keras_kicks.compression.rebuild import take_variables
from keras_kicks.compression.simple_layers import simplified
from keras_kicks.layers import MaxoutDense, OutputHead

pytestmark = pytest.mark.tensorflow
L = keras.layers
IMAGE, ROW = (3, 9, 9, 4), (3, 12, 4)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def rows():
    for padding in ("valid", "same", "causal"):
        for other in ({}, {"strides": 2}, {"dilation_rate": 3}, {"groups": 2}, {"use_bias": False}):
            yield f"Conv1D {padding} {other}", lambda p=padding, o=other: L.Conv1D(6, 3, padding=p, **o), ROW, 3
    yield "Conv1D causal, 1", lambda: L.Conv1D(6, 1, padding="causal", activation="relu"), ROW, 4


CASES = {
    name: (make, shape, count + (0 if "causal" not in name or count == 4 else 1)) for name, make, shape, count in rows()
} | {
    "SeparableConv2D": (lambda: L.SeparableConv2D(5, 3, activation="tanh"), IMAGE, 2),
    "SeparableConv2D, strides": (
        lambda: L.SeparableConv2D(5, (3, 2), strides=2, padding="same", depth_multiplier=2, use_bias=False), IMAGE, 2,
    ),
    "SeparableConv2D, dilation": (lambda: L.SeparableConv2D(5, 3, dilation_rate=2), IMAGE, 2),
    "MaxoutDense": (lambda: MaxoutDense(5, 3), (3, 4), 3),
    "OutputHead": (lambda: OutputHead("regression", 3), (3, 4), 1),
    "MaxoutDense, activation": (lambda: MaxoutDense(5, 2, activation="sigmoid", use_bias=False), (3, 7, 4), 3),
    "Conv2D": (lambda: L.Conv2D(5, 3), IMAGE, 1),
}  # fmt: skip


def built(make, shape):
    layer = make()
    layer.build(shape)
    layer.set_weights([drawn(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def outputs(parts, layer, x):
    y = keras.Sequential([keras.Input(x.shape[1:]), *parts])
    take_variables(parts, layer)
    return y(x)


@pytest.mark.parametrize("name", CASES)
def test_the_parts_compute_what_the_layer_does(name):
    make, shape, count = CASES[name]
    layer, x = built(make, shape), drawn(*shape, seed=9)
    parts = simplified(layer)
    assert len(parts) == count
    y = outputs(parts, layer, x)
    assert y.shape == layer.compute_output_shape(shape)
    np.testing.assert_allclose(y, layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (3, 6, 5, 4)])
def test_a_dense_layer_that_is_normalized_is_a_convolution(shape):
    layer, x = built(lambda: L.Dense(5, activation="tanh"), shape), drawn(*shape, seed=9)
    parts = simplified(layer, normalized=True)
    assert [type(part) for part in parts if part.weights or isinstance(part, L.Conv2D)] == [L.Conv2D]
    np.testing.assert_allclose(outputs(parts, layer, x), layer(x), rtol=1e-5, atol=1e-6)


def test_channels_first_are_left_as_they_are():
    (part,) = simplified(built(lambda: L.Conv1D(5, 3, data_format="channels_first"), ROW))
    assert type(part) is L.Conv1D


def test_a_sequence_of_any_length_keeps_it():
    layer = built(lambda: L.Conv1D(6, 3, padding="causal", strides=2), (None, None, 4))
    model = keras.Sequential([keras.Input((None, 4)), *simplified(layer)])
    take_variables(model.layers, layer)
    assert model.output_shape == (None, None, 6)
    for length in (5, 8):
        x = drawn(2, length, 4)
        np.testing.assert_allclose(model(x), layer(x), rtol=1e-4, atol=1e-5)


KERNEL = ("kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint", "activity_regularizer")
KEPT = {
    "Conv1D": (lambda **settings: L.Conv1D(5, 3, **settings), KERNEL, ROW),
    "MaxoutDense": (lambda **settings: MaxoutDense(5, 3, **settings), KERNEL, (3, 4)),
    "OutputHead": (lambda **settings: OutputHead("multiclass", 3, **settings), KERNEL, (3, 4)),
    "Dense": (lambda **settings: L.Dense(5, **settings), KERNEL, (3, 4)),
    "SeparableConv2D": (
        lambda **settings: L.SeparableConv2D(5, 3, **settings),
        tuple(f"{part}_regularizer" for part in ("depthwise", "pointwise", "bias", "activity"))
        + tuple(f"{part}_constraint" for part in ("depthwise", "pointwise", "bias")),
        IMAGE,
    ),
}


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("name", KEPT)
def test_regularizers_constraints_and_what_is_trainable_are_carried_over(name, trainable):
    make, names, shape = KEPT[name]
    # Each another, for none to be taken for another.
    settings = {
        key: keras.regularizers.L2(0.1 * i) if key.endswith("regularizer") else keras.constraints.MaxNorm(i)
        for i, key in enumerate(names, start=1)
    }
    layer = built(lambda: make(trainable=trainable, **settings), shape)
    x = drawn(*shape, seed=9)
    parts = simplified(layer, normalized=name == "Dense")
    model = keras.Sequential([keras.Input(shape[1:]), *parts])
    take_variables(parts, layer)
    assert [v.trainable for v in model.variables] == [v.trainable for v in layer.variables]
    assert [v.trainable for v in model.variables] == [trainable] * len(layer.variables)
    for new, old in zip(model.variables, layer.variables, strict=True):
        assert new.regularizer.get_config() == old.regularizer.get_config()
        assert new.constraint.get_config() == old.constraint.get_config()
    model(x)
    layer(x)
    np.testing.assert_allclose(float(sum(model.losses)), float(sum(layer.losses)), rtol=1e-5)
    assert float(sum(layer.losses)) > 0
