"""RReLU: values, slopes and their distribution."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import RReLU


def draws(layer, n=40_000):
    """Return the slopes that a layer draws for n negative numbers."""
    return ops.convert_to_numpy(layer(-np.ones(n, "float32"), training=True)) * -1


def test_inference_is_the_mean_slope():
    x = np.linspace(-3, 3, 31).astype("float32")
    y = ops.convert_to_numpy(RReLU(0.1, 0.5)(x))
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.3 * x), rtol=1e-6)


def test_inference_is_that_of_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    expected = torch.nn.RReLU().eval()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ops.convert_to_numpy(RReLU()(x)), expected, rtol=1e-6)


def test_slopes_are_uniform():
    """The largest distance to the distribution function stays below that of Kolmogorov for p = 1e-6."""
    slopes = np.sort(draws(RReLU(0.1, 0.4, seed=1)))
    n = len(slopes)
    assert slopes[0] > 0.1
    assert slopes[-1] < 0.4
    uniform = (slopes - 0.1) / 0.3
    steps = np.arange(n) / n
    distance = np.maximum(uniform - steps, steps + 1 / n - uniform).max()
    assert distance < np.sqrt(-np.log(1e-6 / 2) / (2 * n))


def test_positive_numbers_are_untouched_and_others_scaled():
    x = np.random.default_rng(0).normal(size=1000).astype("float32")
    y = ops.convert_to_numpy(RReLU(0.25, 0.5, seed=1)(x, training=True))
    np.testing.assert_array_equal(y[x > 0], x[x > 0])
    ratio = y[x < 0] / x[x < 0]
    assert 0.25 <= ratio.min() < ratio.max() <= 0.5


def test_draws_differ_by_element_and_by_call():
    layer = RReLU(0.0, 1.0, seed=1)
    first, second = draws(layer), draws(layer)
    n = len(first)
    for a, b in ((first[:-1], first[1:]), (first[0::2], first[1::2]), (first, second)):
        # Independent numbers correlate by less than 5 standard errors.
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(n / 2)


def test_the_same_seed_draws_the_same():
    np.testing.assert_array_equal(draws(RReLU(seed=3)), draws(RReLU(seed=3)))
    assert np.any(draws(RReLU(seed=3)) != draws(RReLU(seed=4)))


def test_equal_slopes_are_a_leaky_relu():
    x = np.random.default_rng(0).normal(size=100).astype("float32")
    expected = ops.convert_to_numpy(ops.leaky_relu(x, 0.3))
    for training in (False, True):
        np.testing.assert_allclose(ops.convert_to_numpy(RReLU(0.3, 0.3)(x, training=training)), expected, rtol=1e-6)


def test_half_precision_draws_in_float32():
    """More slopes than float16 has between 1/8 and 1/3 are drawn, so that their mean is exact."""
    slopes = draws(RReLU(1 / 8, 1 / 3, seed=1, dtype="float32"), 4000)
    half = RReLU(1 / 8, 1 / 3, seed=1, dtype="mixed_float16")
    rounded = ops.convert_to_numpy(half(-np.ones(4000, "float32"), training=True)) * -1
    np.testing.assert_array_equal(rounded, slopes.astype("float16"))


@pytest.mark.tensorflow
def test_gradient_is_the_slope_that_was_drawn():
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(0).normal(size=500).astype("float32"))
    layer = RReLU(seed=1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    np.testing.assert_allclose(tape.gradient(y, x).numpy(), (y / x).numpy(), rtol=1e-5)


@pytest.mark.tensorflow
def test_replicas_draw_slopes_of_their_own(strategy):
    import tensorflow as tf

    with strategy.scope():
        layer = RReLU(0.0, 1.0, seed=1)
        layer.build((None,))

    @tf.function
    def step():
        return strategy.run(lambda: layer(-tf.ones(10_000), training=True))

    first, second = (slopes.numpy() for slopes in strategy.experimental_local_results(step()))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(first))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lower": 0.5, "upper": 0.1}, ValueError, "expected 0 <= lower <= upper <= 1; got lower=0.5, upper=0.1."),
        ({"lower": -0.1}, ValueError, "expected 0 <= lower <= upper <= 1; got lower=-0.1"),
        ({"upper": 1.5}, ValueError, "expected 0 <= lower <= upper <= 1"),
        ({"upper": float("nan")}, ValueError, "expected a finite upper; got upper=nan."),
        ({"lower": "a"}, TypeError, "expected a number for lower; got lower='a'."),
        ({"lower": True}, TypeError, "expected a number for lower; got lower=True."),
        ({"seed": 0.5}, TypeError, "expected an integer for seed; got seed=0.5. Pass None or an integer."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"RReLU: {message}")):
        RReLU(**arguments)


@pytest.mark.slow
def test_a_layer_of_a_model_trains():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), RReLU(seed=0), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    losses = model.fit(x, np.abs(x[:, :1]), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
