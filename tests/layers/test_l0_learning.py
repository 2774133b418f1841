"""What L0 gates learn to do without: against the best subset of all, and on Friedman's data."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import L0

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


def regression(samples=200):
    """Return data of a linear model, four of whose coefficients are 0."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(samples, 8))
    return x, x @ np.array([2.0, -1.0, 0.5, 0.25, 0, 0, 0, 0]) + rng.normal(size=samples) * 0.3


def best_subset(x, y, price):
    """Return the coefficients where the mean square plus the price of each that is not 0 is least, of all subsets."""
    best = None
    for size in range(x.shape[1] + 1):
        for chosen in itertools.combinations(range(x.shape[1]), size):
            w = np.zeros(x.shape[1])
            w[list(chosen)] = np.linalg.lstsq(x[:, chosen], y, rcond=None)[0]
            cost = np.mean((y - x @ w) ** 2) + price * size
            best = min(best or (np.inf, None), (cost, tuple(w)))
    return np.array(best[1])


@pytest.mark.parametrize("price", [0.02, 0.12, 0.5])
def test_a_linear_model_keeps_the_best_subset(price):
    x, y = regression()
    layer = L0(keras.layers.Dense(1, use_bias=False), price, seed=3)
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    tiled = [np.tile(a.reshape(len(x), -1), (1000, 1)).astype("float32") for a in (x, y)]
    model.fit(*tiled, batch_size=len(x), shuffle=False, verbose=0)
    expected = best_subset(x, y, price)
    found = ops.convert_to_numpy(layer.strip().kernel)[:, 0]
    np.testing.assert_array_equal(found != 0, expected != 0)
    # Unlike the lasso, it does not shrink what it keeps.
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert float(layer.expected_l0()) == pytest.approx((expected != 0).sum(), abs=0.3)


@pytest.mark.parametrize("arguments", [{"jit_compile": True}, {"dtype": "mixed_bfloat16"}])
def test_inputs_without_a_meaning_are_closed(arguments):
    """Friedman's first function has five, and five that have nothing to do with it."""
    rng = np.random.default_rng(1)
    x = rng.random((500, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    x, y = (x - 0.5) * np.sqrt(12), (y - y.mean()) / y.std()
    dtype = arguments.pop("dtype", None)
    layer = L0(keras.layers.Dense(16, "relu", dtype=dtype), 0.003, gates="input", seed=3)
    model = keras.Sequential([keras.Input((10,)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse", **arguments)
    model.fit(x.astype("float32"), y.astype("float32"), batch_size=100, epochs=60, verbose=0)
    rows = np.abs(ops.convert_to_numpy(layer.strip().kernel)).sum(axis=1)
    np.testing.assert_array_equal(rows != 0, [True] * 5 + [False] * 5)
