"""Maxout: the groups, the gradient, and which groups fit."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import Maxout


def by_loops(x, pool_size, strided):
    """The definition, unit by unit, over the last axis."""
    units = x.shape[-1] // pool_size
    out = np.empty((*x.shape[:-1], units), x.dtype)
    for j in range(units):
        group = [j + i * units for i in range(pool_size)] if strided else [j * pool_size + i for i in range(pool_size)]
        out[..., j] = x[..., group].max(axis=-1)
    return out


@pytest.mark.parametrize("grouping", ["consecutive", "strided"])
@pytest.mark.parametrize(("shape", "axis", "pool_size"), [((5, 12), -1, 3), ((4, 6, 3), 1, 2), ((2, 3, 4, 8), -2, 4)])
def test_values_are_those_of_the_definition(grouping, shape, axis, pool_size):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = np.moveaxis(by_loops(np.moveaxis(x, axis, -1), pool_size, grouping == "strided"), -1, axis)
    for training in (False, True):
        got = Maxout(pool_size, axis, grouping)(x, training=training)
        np.testing.assert_array_equal(ops.convert_to_numpy(got), expected)


def test_pool_size_one_changes_nothing():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(Maxout(1)(x)), x)


@pytest.mark.tensorflow
@pytest.mark.parametrize("grouping", ["consecutive", "strided"])
def test_gradient_is_that_of_torch(grouping):
    import tensorflow as tf

    torch = pytest.importorskip("torch", reason="torch is the oracle")

    x = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    cotangent = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    theirs = torch.tensor(x, requires_grad=True)
    pieces = theirs.reshape(5, 4, 3) if grouping == "consecutive" else theirs.reshape(5, 3, 4).transpose(1, 2)
    (pieces.max(dim=-1).values * torch.tensor(cotangent)).sum().backward()
    for jit_compile in (False, True):
        ours = tf.constant(x)

        @tf.function(jit_compile=jit_compile)
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = Maxout(3, grouping=grouping)(x) * cotangent
            return tape.gradient(y, x)

        np.testing.assert_array_equal(gradient(ours).numpy(), theirs.grad.numpy())


@pytest.mark.tensorflow
@pytest.mark.parametrize(("grouping", "places"), [("consecutive", [0, 2]), ("strided", [0, 1])])
def test_a_tie_goes_to_the_first(grouping, places):
    import tensorflow as tf

    x = tf.zeros((1, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = Maxout(2, grouping=grouping)(x)
    expected = np.zeros((1, 4))
    expected[0, places] = 1
    np.testing.assert_array_equal(tape.gradient(y, x).numpy(), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pool_size": 0}, ValueError, "expected pool_size >= 1; got pool_size=0."),
        ({"pool_size": 2.0}, TypeError, "expected an integer for pool_size; got pool_size=2.0."),
        ({"pool_size": 2, "axis": 0}, ValueError, "expected axis other than 0, the batch axis; got axis=0."),
        (
            {"pool_size": 2, "grouping": "random"},
            ValueError,
            "expected grouping to be one of 'consecutive', ",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"Maxout: {message}")):
        Maxout(**arguments)


@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (-1, (None, 5), "expected pool_size to divide the length of axis; got pool_size=2, input_shape=(None, 5)."),
        (-1, (None, None), "expected a known length of axis; got axis=-1, input_shape=(None, None)."),
        (2, (None, 4), "expected an input of rank 2 or more that has the axis; got axis=2, input_shape=(None, 4)."),
    ],
)
def test_groups_that_do_not_fit_are_refused_when_built(axis, shape, message):
    with pytest.raises(ValueError, match=re.escape(f"Maxout: {message}")):
        Maxout(2, axis)(keras.Input(shape[1:]))
