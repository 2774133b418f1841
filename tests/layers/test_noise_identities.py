"""Noise is a penalty: for linear models and the squared error in closed form, in the loss and where training ends."""

import keras
import numpy as np
import pytest

from keras_kicks.layers import VectorNoise

RATE, SCALE = 0.4, np.array([1.0, 0.3, 0.0, 2.0])
NOISES = {
    # The layer, and what it adds to the mean over n rows of the squared error: sum_j penalty_j(X) w_j^2.
    # Bishop 1995: the variance of the noise.
    "normal": (lambda: VectorNoise(SCALE, seed=1), lambda x: SCALE**2),
    "uniform": (lambda: VectorNoise(SCALE, "uniform", seed=1), lambda x: SCALE**2),
    # Wager, Wang and Liang 2013; Srivastava et al. 2014, section 9.1: the variance of what Dropout multiplies with,
    # times the square of the feature.
    "dropout": (lambda: keras.layers.Dropout(RATE, seed=1), lambda x: RATE / (1 - RATE) * (x**2).mean(axis=0)),
}
EACH = pytest.mark.parametrize("name", NOISES)


def regression(n=100):
    """Return correlated features and a noisy linear target."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)) @ np.array([[1, 0.5, 0, 0], [0, 1, 0.7, 0], [0, 0, 1, 0.3], [0, 0, 0, 2.0]])
    y = x @ [1.0, -2.0, 0.5, 1.5] + rng.normal(size=n)
    return x.astype("float32"), y.astype("float32")[:, None]


def linear(noise):
    """Return a linear model behind noise."""
    model = keras.Sequential([keras.Input((4,)), noise, keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model


@EACH
def test_the_expected_loss_is_the_loss_and_the_penalty(name):
    (make, penalty), (x, y), copies = NOISES[name], regression(), 2000
    model = linear(make())
    w = np.array([[0.7], [-1.0], [2.0], [0.4]], "float32")
    model.layers[-1].set_weights([w])
    many = np.tile(x, (copies, 1))
    errors = (keras.ops.convert_to_numpy(model(many, training=True)).reshape(copies, -1) - y.ravel()) ** 2
    losses = errors.mean(axis=1).astype("float64")
    clean = float(((x @ w - y) ** 2).mean())
    added = float(penalty(x) @ w.ravel() ** 2)
    error = losses.std() / np.sqrt(copies)
    assert abs(losses.mean() - clean - added) < 5 * error
    assert added > 50 * error  # The bound above would tell a penalty that is a tenth too large.


@EACH
def test_training_ends_at_ridge_regression(name):
    """Steps with fresh noise, their weights averaged: the solution of the normal equations with the penalty."""
    (make, penalty), (x, y), copies = NOISES[name], regression(), 40
    moments, target = x.T @ x / len(x), x.T @ y / len(x)
    ridge = np.linalg.solve(moments + np.diag(penalty(x)), target)
    plain = np.linalg.solve(moments, target)
    model, kept = linear(make()), []
    rows = np.tile(x, (copies, 1)), np.tile(y, (copies, 1))
    for _ in range(500):
        model.train_on_batch(*rows)
        kept.append(model.layers[-1].get_weights()[0])
    found = np.mean(kept[250:], axis=0)
    assert np.linalg.norm(plain - ridge) > 0.2
    assert np.linalg.norm(found - ridge) < 0.02 * np.linalg.norm(plain - ridge)
