"""The proximal step of the norm: the conditions of its minimum, in NumPy."""

import numpy as np
import pytest
from keras import ops

from keras_kicks.ops.norm_prox import norm_prox


def case(seed, spread, size=20):
    rng = np.random.default_rng(seed)
    x, rate = rng.normal(size=size), 10.0 ** rng.uniform(-spread, spread, size)
    return x.astype("float32"), rate.astype("float32")


def found(x, rate, weight, l2=0.0):
    pull, damping = (ops.convert_to_tensor(np.asarray(a, "float32")) for a in (rate * weight, 1 + rate * l2))
    return np.asarray(ops.convert_to_numpy(norm_prox(ops.convert_to_tensor(x), pull, damping)), "float64")


@pytest.mark.parametrize("l2", [0.0, 0.7])
@pytest.mark.parametrize("weight", [1e-3, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_the_slope_of_what_is_least_is_zero(spread, weight, l2):
    """(w - x) / rate + l2 w + weight w / |w| = 0, or, at 0, no slope is steeper than the weight."""
    for seed in range(3):
        x, rate = case(seed, spread)
        w = found(x, rate, weight, l2)
        if w.any():
            slope = (w - x) / rate + l2 * w + weight * w / np.linalg.norm(w)
            # Where the step is short, a rounding of w is a steep slope: in parts of what is added up.
            assert (np.abs(slope) <= 2e-5 * (np.abs(x) / rate + weight)).all()
        assert w.any() == (np.linalg.norm(x / rate) > weight)


def test_one_step_size_for_all_is_the_closed_form():
    x, _ = case(0, 0)
    length = np.linalg.norm(x)
    for weight in (0.0, 0.5, length * 0.99, length * 1.01):
        expected = x * max(1 - weight / length, 0)
        np.testing.assert_allclose(found(x, np.float32(1.0), weight), expected, rtol=1e-4, atol=1e-6)


def test_nothing_stays_nothing_and_no_step_changes_nothing():
    x, rate = case(0, 1.0)
    np.testing.assert_array_equal(found(0 * x, rate, 1.0), 0)
    np.testing.assert_array_equal(found(0 * x, 0 * rate, 1.0), 0)
    np.testing.assert_allclose(found(x, 0 * rate, 1.0), x, rtol=1e-6)
