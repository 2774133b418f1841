"""The noise in gradients, against gradients of single samples and the formulas of the paper."""

import keras
import numpy as np
import pytest
from event_files import read
from keras import layers

from keras_kicks.diagnostics import GradientNoiseScale, gradient_noise_scale

SAMPLES = 60

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="It needs TensorFlow or torch, and says so.")


def linear(features=3, **arguments):
    """A linear regression, whose gradients are known: 2 (w x - y) x."""
    net = keras.Sequential([keras.Input((features,)), layers.Dense(1, use_bias=False, name="only", **arguments)])
    net.set_weights([np.arange(1.0, features + 1)[:, None]])
    net.compile(loss="mse")
    return net


def data(samples=SAMPLES, features=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, features)).astype("float32")
    return x, (x.sum(axis=1, keepdims=True) + rng.normal(size=(samples, 1))).astype("float32")


def single_gradients(net, x, y, weight=1.0):
    """Return the gradient of each sample, shape (samples, features), in float64."""
    x, y, w = np.asarray(x, "float64"), np.asarray(y, "float64"), np.asarray(net.get_weights()[0], "float64")
    return 2 * (x @ w - y) * weight * x


def test_batches_of_one_are_the_definition():
    net, (x, y) = linear(), data()
    gradients, noise = single_gradients(net, x, y), gradient_noise_scale(net, x, y, batch_size=1)
    mean, trace = gradients.mean(axis=0), np.trace(np.cov(gradients.T))
    np.testing.assert_allclose(noise.gradient[0][:, 0], mean, rtol=1e-5)
    assert noise.gradient_norm == pytest.approx(np.linalg.norm(mean), rel=1e-5)
    assert noise.trace == pytest.approx(trace, rel=1e-5)
    assert noise.noise_scale == pytest.approx(trace / (mean @ mean - trace / SAMPLES), rel=1e-4)
    assert (noise.samples, noise.batches) == (SAMPLES, SAMPLES)
    assert noise.of_layer("only") == noise.noise_scale


@pytest.mark.parametrize("batch_size", [7, 20, 59])
def test_the_gradient_of_all_data_does_not_depend_on_the_batches(batch_size):
    net, (x, y) = linear(), data()
    gradients, noise = single_gradients(net, x, y), gradient_noise_scale(net, x, y, batch_size=batch_size)
    np.testing.assert_allclose(noise.gradient[0][:, 0], gradients.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [4, 7])
def test_the_trace_is_right_in_the_mean_over_orders(batch_size):
    """4 divides 60 and 7 does not."""
    net, (x, y) = linear(), data()
    trace = np.trace(np.cov(single_gradients(net, x, y).T))
    found = [gradient_noise_scale(net, x, y, batch_size=batch_size, seed=seed).trace for seed in range(40)]
    assert abs(np.mean(found) - trace) < 4 * np.std(found) / np.sqrt(40)
    assert np.std(found) > 0


def test_it_is_the_estimate_of_the_paper():
    """Appendix A.1, with batches of 5 and of 60."""
    net, (x, y), small, big = linear(), data(), 5, SAMPLES
    order = np.random.default_rng(3).permutation(SAMPLES)
    means = single_gradients(net, x, y)[order].reshape(-1, small, 3).mean(axis=1)
    small_square, big_square = np.mean(np.sum(means**2, axis=1)), np.sum(means.mean(axis=0) ** 2)
    square = (big * big_square - small * small_square) / (big - small)
    trace = (small_square - big_square) / (1 / small - 1 / big)
    noise = gradient_noise_scale(net, x, y, batch_size=small, seed=3)
    assert noise.trace == pytest.approx(trace, rel=1e-5)
    assert noise.noise_scale == pytest.approx(trace / square, rel=1e-4)


def test_what_a_batch_is_off_by():
    """By drawing batches."""
    net, (x, y) = linear(), data()
    gradients, noise = single_gradients(net, x, y), gradient_noise_scale(net, x, y, batch_size=1)
    mean = gradients.mean(axis=0)
    rng = np.random.default_rng(0)
    draws = gradients[rng.integers(0, SAMPLES, size=(20000, 10))].mean(axis=1)
    error = np.sqrt(np.mean(np.sum((draws - mean) ** 2, axis=1))) / np.linalg.norm(mean)
    # The data are all there is to draw from: SAMPLES - 1 is taken for SAMPLES.
    assert noise.relative_error(10) == pytest.approx(error, rel=0.03)
    np.testing.assert_allclose(noise.relative_error([10, 40]), noise.relative_error(10) / np.array([1, 2]))


def test_steps_and_samples_trade_off():
    noise = GradientNoiseScale((np.array([2.0]),), (40.0,), 10**9, 10, {"a": (0,)})
    assert noise.noise_scale == pytest.approx(10.0)
    size = np.array([1, 10, 100])
    np.testing.assert_allclose(noise.steps(size), [11.0, 2.0, 1.1], rtol=1e-6)
    # Equation 2.11 of the paper.
    np.testing.assert_allclose((noise.steps(size) - 1) * (noise.examples(size) - 1), 1.0)


def test_a_gradient_that_cannot_be_told_from_zero():
    noise = GradientNoiseScale((np.array([1.0]),), (40.0,), 10, 10, {"a": (0,)})
    assert noise.noise_scale == np.inf
    with pytest.raises(KeyError, match="'b'; there are: 'a'"):
        noise.of_layer("b")


def test_weights_and_penalties():
    net = linear(kernel_regularizer="l2")
    (x, y), weight = data(), np.linspace(0, 2, SAMPLES)
    penalty = 2 * 0.01 * net.get_weights()[0][:, 0]
    gradients = single_gradients(net, x, y, weight[:, None]) + penalty
    noise = gradient_noise_scale(net, x, y, weight, batch_size=1)
    np.testing.assert_allclose(noise.gradient[0][:, 0], gradients.mean(axis=0), rtol=1e-5)
    assert noise.trace == pytest.approx(np.trace(np.cov(gradients.T)), rel=1e-5)


def test_a_loss_of_ones_own_needs_no_compilation():
    net, (x, y) = linear(), data()
    expected = gradient_noise_scale(net, x, y, batch_size=6)
    free = keras.models.clone_model(net)
    free.set_weights(net.get_weights())
    noise = gradient_noise_scale(free, x, y, loss=lambda y, p: keras.ops.mean((y - p) ** 2), batch_size=6)
    assert noise.noise_scale == pytest.approx(expected.noise_scale, rel=1e-5)


@pytest.mark.tensorflow
def test_a_dataset_is_taken_batch_by_batch():
    import tensorflow as tf

    net, (x, y) = linear(), data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    noise = gradient_noise_scale(net, dataset)
    assert (noise.samples, noise.batches) == (SAMPLES, 8)
    np.testing.assert_allclose(noise.gradient[0][:, 0], single_gradients(net, x, y).mean(axis=0), rtol=1e-5)


def test_the_model_is_as_it_was():
    hidden = [layers.Dense(4, name="a"), layers.BatchNormalization(), layers.Dropout(0.5)]
    net = keras.Sequential([keras.Input((3,)), *hidden, layers.Dense(1)])
    net.compile("sgd", "mse", metrics=["mae"])
    x, y = data()
    net.fit(x, y, verbose=0)
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in [*net.variables, *net.metrics_variables]]
    noise = gradient_noise_scale(net, x, y, batch_size=10, training=True)
    for v, value in zip([*net.variables, *net.metrics_variables], before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(v), value)
    assert list(noise.layers) == [layer.name for layer in net.layers if layer.trainable_weights]
    assert np.isfinite(noise.trace)
    assert str(noise).splitlines()[1].startswith("all")
    assert len(str(noise).splitlines()) == 2 + len(noise.layers)


@pytest.mark.tensorflow
def test_what_tensorboard_shows(tmp_path):
    net, (x, y) = linear(), data()
    noise = gradient_noise_scale(net, x, y)
    noise.write(tmp_path, step=3)
    found = read(tmp_path)
    assert found["gradient_noise_scale"] == [(3, pytest.approx(noise.noise_scale, rel=1e-6))]
    assert found["gradient_noise_scale/only"] == [(3, pytest.approx(noise.noise_scale, rel=1e-6))]
    assert found["gradient_noise"][0][1].decode().splitlines()[2].startswith("| all |")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "expected batch_size >= 1; got batch_size=0"),
        ({"batch_size": 2.0}, TypeError, "expected an integer for batch_size; got batch_size=2.0"),
        ({"batch_size": SAMPLES}, ValueError, "expected at least two batches; got batches=1. Pass a smaller"),
        ({"y": np.zeros((3, 1))}, ValueError, "expected as many targets as inputs; got lengths=[60, 3]"),
        ({"loss": lambda y, p: y - p}, ValueError, "expected a loss that is a scalar; got shape="),
    ],
)
def test_bad_input(arguments, error, message):
    x, y = data()
    with pytest.raises(error) as raised:
        gradient_noise_scale(linear(), **{"x": x, "y": y, **arguments})
    assert str(raised.value).startswith(f"gradient_noise_scale: {message}")


def test_bad_models():
    x, y = data()
    free = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    with pytest.raises(ValueError, match=r"expected a compiled model; got compiled=False\. Compile it, or"):
        gradient_noise_scale(free, x, y)
    free.trainable = False
    with pytest.raises(ValueError, match="expected a model with trainable weights"):
        gradient_noise_scale(free, x, y)
    with pytest.raises(TypeError, match="gradient_noise_scale: expected"):
        gradient_noise_scale(lambda x: x, x, y)


def test_any_integer_is_a_seed():
    net, (x, y) = linear(), data()
    one, other = (gradient_noise_scale(net, x, y, batch_size=4, seed=-1).trace for _ in range(2))
    assert one == other
