"""The masks that DropConnect draws for each kind of linear layer, entry by entry."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.layers import DropConnect


def array(x):
    return np.array(ops.convert_to_numpy(x))


def unit_inputs(*shape):
    """Return a batch of examples that are zero but for a one: a linear layer answers with the rows of its kernel."""
    return np.eye(int(np.prod(shape)), dtype="float32").reshape(-1, *shape)


# Layers with a kernel of ones, and the inputs that show every entry of it once.
LINEAR = {
    "Dense": (lambda **ones: layers.Dense(200, **ones), unit_inputs(100)),
    "Conv1D": (lambda **ones: layers.Conv1D(200, 5, **ones), unit_inputs(5, 20)),
    "Conv2D": (lambda **ones: layers.Conv2D(200, (2, 5), **ones), unit_inputs(2, 5, 10)),
    "Conv3D": (lambda **ones: layers.Conv3D(200, (2, 3, 4), **ones), unit_inputs(2, 3, 4, 4)),
    "EinsumDense": (lambda **ones: layers.EinsumDense("ab,bcd->acd", (20, 10), **ones), unit_inputs(100)),
}


def wrapped(name, rate, seed=1):
    make, x = LINEAR[name]
    return DropConnect(make(kernel_initializer="ones"), rate, seed=seed), x


def mask_of(wrapper, x):
    y = array(wrapper(x, training=True))
    return y.reshape(wrapper.layer.kernel.shape)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", LINEAR)
def test_weights_are_dropped_at_the_rate_and_the_others_scaled(name, rate):
    wrapper, x = wrapped(name, rate)
    mask = mask_of(wrapper, x)
    # The share that is kept is a multiple of 2^-15, in the scale and in the draws: the mean of a mask is exactly 1.
    share = round((1 - rate) * 2**15) / 2**15
    np.testing.assert_allclose(mask[mask != 0], 1 / share, rtol=1e-6)
    assert abs((mask != 0).mean() - share) < 5 * np.sqrt(share * (1 - share) / mask.size)


@pytest.mark.parametrize("name", LINEAR)
def test_entries_are_dropped_independently_of_their_neighbours(name):
    wrapper, x = wrapped(name, 0.5)
    deviation = mask_of(wrapper, x) - 1  # -1 or 1
    for axis in range(deviation.ndim):
        products = np.delete(deviation, -1, axis) * np.delete(deviation, 0, axis)
        if products.size:
            assert abs(products.mean()) < 5 / np.sqrt(products.size)


@pytest.mark.parametrize("name", LINEAR)
def test_every_call_draws_anew_and_a_seed_draws_the_same(name):
    wrapper, x = wrapped(name, 0.5)
    again, _ = wrapped(name, 0.5)
    other, _ = wrapped(name, 0.5, seed=2)
    first, second = mask_of(wrapper, x), mask_of(wrapper, x)
    for a, b in ((first, second), (first, mask_of(other, x))):
        assert abs(((a - 1) * (b - 1)).mean()) < 5 / np.sqrt(a.size)
    np.testing.assert_array_equal(first, mask_of(again, x))


def test_a_rate_next_to_one_keeps_one_level_of_all():
    """Never a division by zero: what is kept is scaled by 2^15."""
    wrapper = DropConnect(layers.Dense(1000, kernel_initializer="ones"), 1 - 1e-9, seed=1)
    mask = array(wrapper(unit_inputs(300), training=True))
    assert set(np.unique(mask)) == {0.0, 2.0**15}


def test_constraints_act_on_the_undropped_kernel():
    """With a learning rate of 0 the constraint alone moves the kernel, to norm 1 in every column."""
    wrapper = DropConnect(layers.Dense(5, kernel_constraint=keras.constraints.UnitNorm(axis=0)), 0.5, seed=1)
    model = keras.Sequential([keras.Input((4,)), wrapper])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    before = array(wrapper.layer.kernel)
    model.fit(np.ones((8, 4), "float32"), np.ones((8, 5), "float32"), verbose=0)
    expected = before / np.linalg.norm(before, axis=0)
    np.testing.assert_allclose(array(wrapper.layer.kernel), expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{"mask": "batch"}, {"mask": "sample"}, {"inference": "gaussian"}])
def test_a_kernel_regularizer_is_counted_once(arguments):
    regularizer = keras.regularizers.L2(0.5)
    wrapper = DropConnect(layers.Dense(5, activation="relu", kernel_regularizer=regularizer), 0.5, seed=1, **arguments)
    for training in (True, False):
        wrapper(np.ones((3, 4), "float32"), training=training)
        expected = 0.5 * (array(wrapper.layer.kernel) ** 2).sum()
        np.testing.assert_allclose([float(array(loss)) for loss in wrapper.losses], [expected], rtol=1e-6)
