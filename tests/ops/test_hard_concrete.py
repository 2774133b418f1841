"""The hard concrete distribution: against the paper's formulas in NumPy, and its gradient by differences."""

import keras
import numpy as np
import pytest
import subjects
from keras import ops

from keras_kicks.ops.hard_concrete import mean_gates, open_probability, sampled_gates

N = 2**17
PAPER = (2 / 3, (-0.1, 1.1))
OTHER = (0.4, (-0.3, 1.2))


def array(x):
    return np.array(ops.convert_to_numpy(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def distribution(x, log_alpha, temperature, stretch):
    """Equations 9 and 10 of the paper: the stretched variable is at most x with this probability."""
    low, high = stretch
    s = (x - low) / (high - low)
    return sigmoid((np.log(s) - np.log(1 - s)) * temperature - log_alpha)


def draws(log_alpha, temperature, stretch, seed=1):
    locations = ops.convert_to_tensor(np.full(N, log_alpha, "float32"))
    return array(sampled_gates(locations, keras.random.SeedGenerator(seed), temperature, stretch))


@pytest.mark.parametrize("shape", [PAPER, OTHER])
@pytest.mark.parametrize("log_alpha", [-4.0, -1.0, 0.0, 2.5])
def test_draws_have_the_papers_distribution(log_alpha, shape):
    """The shares of exact zeros and ones, and of all between, to five standard errors."""
    z = draws(log_alpha, *shape)
    assert z.min() >= 0
    assert z.max() <= 1
    at = np.linspace(0.02, 0.98, 9)
    shares = {"closed": (z == 0).mean(), "open": (z < 1).mean(), **{x: (z <= x).mean() for x in at}}
    expected = {"closed": 0.0, "open": 1.0, **{x: x for x in at}}
    for name, share in shares.items():
        p = distribution(expected[name], log_alpha, *shape)
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / N), name


@pytest.mark.parametrize("shape", [PAPER, OTHER])
def test_the_probability_of_an_open_gate_is_the_complement(shape):
    log_alpha = np.linspace(-6, 6, 25).astype("float32")
    expected = 1 - distribution(0.0, log_alpha.astype("float64"), *shape)
    np.testing.assert_allclose(array(open_probability(ops.convert_to_tensor(log_alpha), *shape)), expected, rtol=1e-5)


def test_inference_has_no_noise_and_exact_ends():
    log_alpha = np.array([-8.0, -2.5, -1.0, 0.0, 1.0, 2.5, 8.0], "float32")
    expected = np.clip(sigmoid(log_alpha.astype("float64")) * 1.2 - 0.1, 0, 1)
    found = array(mean_gates(ops.convert_to_tensor(log_alpha), PAPER[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found[[0, 1, 5, 6]], [0, 0, 1, 1])


@pytest.mark.parametrize("shape", [PAPER, OTHER])
def test_the_gradient_is_that_of_the_same_noise_moved(shape):
    """Of each gate by its own location; where the difference crosses a corner there is none."""
    log_alpha = np.linspace(-4, 4, 1000).astype("float32")

    def gates(moved):
        return array(sampled_gates(ops.convert_to_tensor(moved), keras.random.SeedGenerator(7), *shape))

    def gradient():
        from cases import Case

        generator = keras.random.SeedGenerator(7)
        case = Case(None, None, "function", None)
        _, found, _ = subjects.value_and_gradients(case, lambda x: sampled_gates(x, generator, *shape), [log_alpha], 0)
        return subjects.array(found[0]) / np.random.default_rng(3).normal(size=log_alpha.shape)

    step = 1e-2
    values = [gates(log_alpha + h) for h in (-step, 0, step)]
    expected = (values[2] - values[0]) / (2 * step)
    inside = np.all([(v > 0) & (v < 1) for v in values], axis=0)
    shut = np.all([v == 0 for v in values], axis=0) | np.all([v == 1 for v in values], axis=0)
    assert inside.sum() > 50
    assert shut.sum() > 50
    found = gradient()
    np.testing.assert_allclose(found[inside], expected[inside], rtol=2e-3, atol=2e-4)
    np.testing.assert_array_equal(found[shut], 0)


def test_every_draw_is_anew_and_a_seed_draws_the_same():
    np.testing.assert_array_equal(draws(0.0, *PAPER), draws(0.0, *PAPER))
    assert (draws(0.0, *PAPER) != draws(0.0, *PAPER, seed=2)).any()
