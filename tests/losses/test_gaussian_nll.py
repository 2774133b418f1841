"""GaussianNLL against the density of scipy, torch, and the estimates that its minimum is."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import GaussianNLL


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def variances(raw, form, least):
    raw = raw.astype("float64")
    return (np.logaddexp(0, raw) if form == "softplus" else np.exp(raw)) + least


@pytest.mark.parametrize("form", ["softplus", "log"])
def test_full_loss_times_targets_is_the_negative_log_density(form):
    stats = pytest.importorskip("scipy.stats", reason="scipy is the oracle")
    y, outputs = drawn(9, 3), drawn(9, 6, seed=1)
    scale = np.sqrt(variances(outputs[:, 3:], form, 0.01))
    expected = -stats.norm.logpdf(y, outputs[:, :3], scale).sum(axis=-1)
    got = GaussianNLL(form, 0.01, full=True, reduction=None)(y, outputs)
    np.testing.assert_allclose(3 * ops.convert_to_numpy(got), expected, rtol=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_values_and_gradients_are_those_of_torch(full):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    y, outputs = drawn(9, 3), drawn(9, 6, seed=1)
    theirs = torch.tensor(outputs, requires_grad=True)
    mean, raw = theirs.chunk(2, dim=-1)
    variance = torch.nn.functional.softplus(raw) + 1e-6
    expected = torch.nn.GaussianNLLLoss(full=full)(mean, torch.tensor(y), variance)
    assert float(GaussianNLL(full=full)(y, outputs)) == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    np.testing.assert_allclose(gradient(GaussianNLL(full=full), y, outputs), theirs.grad.numpy(), rtol=1e-4, atol=1e-7)


def gradient(loss, y, outputs):
    """The gradient by the outputs, as the first step of SGD shows it."""
    layer = keras.layers.Dense(outputs.shape[-1], use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((len(outputs),)), layer])
    layer.kernel.assign(outputs)
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.fit(np.eye(len(outputs), dtype="float32"), y, batch_size=len(outputs), verbose=0)
    return outputs - ops.convert_to_numpy(layer.kernel)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_beta_weights_the_gradient_but_not_through_the_variance(beta):
    y, outputs = drawn(9, 1), drawn(9, 2, seed=1)
    plain, weighted = (gradient(GaussianNLL("log", 1e-9, beta=b), y, outputs) for b in (0.0, beta))
    np.testing.assert_allclose(weighted, plain * np.exp(beta * outputs[:, 1:]), rtol=1e-3, atol=1e-6)
    if beta == 1.0:  # The mean learns as with half of the squared error.
        np.testing.assert_allclose(weighted[:, 0], (outputs[:, 0] - y[:, 0]) / len(y), rtol=1e-3, atol=1e-6)


def test_the_minimum_is_mean_and_variance_of_the_sample():
    y = 2 + 0.5 * drawn(512, 1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.compile(keras.optimizers.Adam(0.05), GaussianNLL("log", 1e-9))
    again = np.tile(y, (100, 1))  # All samples in each batch.
    model.fit(np.ones_like(again), again, batch_size=512, epochs=4, shuffle=False, verbose=0)
    mean, raw = model.layers[0].get_weights()[0][0]
    assert mean == pytest.approx(float(y.mean()), abs=2e-3)
    assert np.exp(raw) == pytest.approx(float(y.var()), rel=5e-3)


def test_extreme_outputs_have_finite_losses_and_gradients():
    outputs = np.array([[1e3, -1e3], [0.0, -200.0], [0.0, 1e3]], "float32")
    y = np.zeros((3, 1), "float32")
    assert np.isfinite(ops.convert_to_numpy(GaussianNLL(reduction=None)(y, outputs))).all()
    assert np.isfinite(gradient(GaussianNLL(), y, outputs)).all()


def test_one_target_needs_no_axis_and_samples_have_weights():
    y, outputs, weights = drawn(6), drawn(6, 2, seed=1), np.array([0, 1, 2, 3, 0, 1.0])
    each = ops.convert_to_numpy(GaussianNLL(reduction=None)(y[:, None], outputs))
    np.testing.assert_array_equal(ops.convert_to_numpy(GaussianNLL(reduction=None)(y, outputs)), each)
    assert float(GaussianNLL()(y, outputs, weights)) == pytest.approx((each * weights).sum() / 6, rel=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_it_computes_in_float32_under_a_mixed_policy(policy):
    keras.config.set_dtype_policy(policy)
    y, outputs = drawn(6, 1), drawn(6, 2, seed=1)
    got = GaussianNLL(dtype=policy)(y, outputs)
    keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(got.dtype) == "float32"
    assert float(got) == pytest.approx(float(GaussianNLL()(y, outputs)), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"variance": "exp"}, ValueError, "GaussianNLL: expected variance to be one of 'softplus', 'log'"),
        ({"min_variance": 0}, ValueError, "GaussianNLL: expected min_variance > 0; got min_variance=0."),
        ({"min_variance": "1"}, TypeError, "GaussianNLL: expected a number for min_variance"),
        ({"beta": 1.5}, ValueError, "GaussianNLL: expected 0 <= beta <= 1; got beta=1.5."),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        GaussianNLL(**arguments)


@pytest.mark.parametrize(
    ("true", "predicted"), [((4, 1), (4, 1)), ((4, 3), (4, 4)), ((4,), (4, 4)), ((4, 2, 1), (4, 2))]
)
def test_predictions_without_a_variance_for_each_target(true, predicted):
    with pytest.raises(
        ValueError, match=r"GaussianNLL: expected predictions with a mean and a variance for each target"
    ):
        GaussianNLL()(np.zeros(true), np.zeros(predicted))
