"""The constraint to symmetric weights, against its definition in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.constraints import Symmetric


@pytest.mark.parametrize("axis", [0, 1, -1, [0, 1], [0, 2], [-1, -3, 1]], ids=str)
@pytest.mark.parametrize("shape", [(4, 6, 2), (5, 3, 3)], ids=str)
def test_it_is_the_nearest_symmetric_weight(shape, axis):
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape).astype("float32")
    got = ops.convert_to_numpy(Symmetric(axis)(ops.convert_to_tensor(w)))
    axes = tuple(axis) if isinstance(axis, list) else axis
    np.testing.assert_array_equal(got, np.flip(got, axes))
    # Of a projection onto a subspace: the rest is orthogonal to all that is symmetric.
    for _ in range(5):
        other = rng.normal(size=shape)
        assert abs(np.vdot(w - got, other + np.flip(other, axes))) < 1e-4
    np.testing.assert_array_equal(ops.convert_to_numpy(Symmetric(axis)(ops.convert_to_tensor(got))), got)


def test_a_kernel_stays_symmetric_in_training():
    layer = keras.layers.Dense(3, kernel_constraint=Symmetric([0, 1]))
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(16, 5)), rng.normal(size=(16, 3)), verbose=0)
    kernel = layer.get_weights()[0]
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    assert np.abs(kernel - kernel[:, ::-1]).max() > 0.1


@pytest.mark.parametrize(
    ("axis", "error"), [(1.0, TypeError), ("left", TypeError), ([], ValueError), ([0, 0], ValueError)]
)
def test_what_is_no_axis(axis, error):
    with pytest.raises(error, match=r"Symmetric: expected .*axis="):
        Symmetric(axis)


@pytest.mark.parametrize("axis", [2, -3, [0, 2], [0, -2]], ids=str)
def test_axes_that_the_weight_lacks(axis):
    with pytest.raises(ValueError, match=r"Symmetric: expected .* got axis="):
        Symmetric(axis)(ops.ones((3, 4)))
