"""Pinball against scikit-learn, the quantiles that its minimum is, and the asymmetric Laplace distribution."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import Pinball


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
def test_value_is_that_of_scikit_learn(q):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle")
    y, f, weights = drawn(20, 1), drawn(20, 1, seed=1), np.random.default_rng(2).random(20)
    expected = metrics.mean_pinball_loss(y, f, alpha=q, sample_weight=weights)
    got = float(Pinball(q)(y, f, weights)) * 20 / weights.sum()
    assert got == pytest.approx(expected, rel=1e-5)


def test_several_quantiles_are_the_mean_of_each():
    y, f = drawn(20, 1), drawn(20, 3, seed=1)
    each = [float(Pinball(q)(y, f[:, i : i + 1])) for i, q in enumerate((0.1, 0.5, 0.9))]
    for targets in (y, y[:, 0]):
        assert float(Pinball([0.1, 0.5, 0.9])(targets, f)) == pytest.approx(np.mean(each), rel=1e-5)
    targets, outputs = drawn(20, 2), drawn(20, 2, 3, seed=1)
    each = [float(Pinball([0.1, 0.5, 0.9])(targets[:, i], outputs[:, i])) for i in range(2)]
    assert float(Pinball([0.1, 0.5, 0.9])(targets, outputs)) == pytest.approx(np.mean(each), rel=1e-5)


def test_it_is_the_negative_log_likelihood_but_for_the_constant():
    stats = pytest.importorskip("scipy.stats", reason="scipy is the oracle")
    q, y, f = 0.2, drawn(20, 1), drawn(20, 1, seed=1)
    # scipy's density is kappa / (1 + kappa^2) times exp(-x kappa) above 0, exp(x / kappa) below, in units of its scale.
    kappa = np.sqrt(q / (1 - q))
    scale = 1 / np.sqrt(q * (1 - q))
    expected = -stats.laplace_asymmetric.logpdf(y, kappa, loc=f, scale=scale).mean()
    loss = Pinball(q)
    assert float(loss(y, f)) + loss.constant == pytest.approx(expected, rel=1e-5)


def test_the_minimum_over_constants_is_the_quantile_of_the_sample():
    y = np.sort(drawn(101, 1), axis=0)
    for q in (0.1, 0.5, 0.77):
        losses = [float(Pinball(q)(y, np.full_like(y, value))) for value in y[:, 0]]
        assert y[np.argmin(losses), 0] == np.quantile(y, q, method="inverted_cdf")


def test_a_linear_model_comes_to_quantile_regression():
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is the oracle")
    x = drawn(300, 2)
    y = x @ np.array([[1.0], [-2.0]], "float32") + drawn(300, 1, seed=1) * (1 + np.abs(x[:, :1]))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    rate = keras.optimizers.schedules.CosineDecay(0.1, 1500)
    model.compile(keras.optimizers.Adam(rate), Pinball([0.25, 0.8]))
    # All samples in each batch.
    model.fit(np.tile(x, (100, 1)), np.tile(y, (100, 1)), batch_size=300, epochs=15, shuffle=False, verbose=0)
    kernel, bias = model.get_weights()
    for i, q in enumerate((0.25, 0.8)):
        peer = linear.QuantileRegressor(quantile=q, alpha=0).fit(x, y[:, 0])
        np.testing.assert_allclose([*kernel[:, i], bias[i]], [*peer.coef_, peer.intercept_], atol=0.01)


def test_gradient_at_a_hit_is_between_its_sides():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    y, f = drawn(6, 1), drawn(6, 1, seed=1)
    theirs = torch.tensor(f, requires_grad=True)
    above = torch.tensor(y) - theirs
    torch.maximum(0.3 * above, -0.7 * above).mean().backward()
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.kernel.assign(f)
    model.compile(keras.optimizers.SGD(1.0), Pinball(0.3))
    model.fit(np.eye(6, dtype="float32"), y, batch_size=6, verbose=0)
    np.testing.assert_allclose(f - ops.convert_to_numpy(layer.kernel), theirs.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("quantiles", "error", "message"),
    [
        (0, ValueError, "Pinball: expected 0 < quantiles < 1; got quantiles=0."),
        ([0.5, 1.0], ValueError, "Pinball: expected 0 < quantiles < 1; got quantiles=1.0."),
        ([], ValueError, "Pinball: expected one quantile or more; got quantiles=[]."),
        ("median", TypeError, "Pinball: expected a number for quantiles; got quantiles='median'."),
    ],
)
def test_wrong_arguments(quantiles, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Pinball(quantiles)


@pytest.mark.parametrize(
    ("quantiles", "true", "predicted"),
    [
        (0.5, (4, 1), (4, 2)),
        ([0.1, 0.9], (4, 1), (4, 3)),
        ([0.1, 0.9], (4, 2), (4, 2)),
        (0.5, (4,), (4, 2)),
        (0.5, (4,), (4,)),
    ],
)
def test_shapes_that_do_not_fit(quantiles, true, predicted):
    with pytest.raises(ValueError, match=r"Pinball: expected targets of the shape of the predictions, or without"):
        Pinball(quantiles)(np.zeros(true), np.zeros(predicted))
