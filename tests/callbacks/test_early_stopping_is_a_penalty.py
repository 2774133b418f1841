"""What early stopping does to a quadratic loss: Goodfellow, Bengio and Courville, Deep Learning, section 7.8."""

import keras
import numpy as np
import pytest

from keras_kicks.callbacks import EarlyStopping, Patience

SIZE, FEATURES, RATE = 60, 8, 0.3


def make_data():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(SIZE, FEATURES)) * np.linspace(0.1, 0.3, FEATURES)
    held = rng.normal(size=(400, FEATURES)) * np.linspace(0.1, 0.3, FEATURES)
    w = 0.3 * rng.normal(size=FEATURES)
    return (x, x @ w + rng.normal(size=SIZE)), (held, held @ w + rng.normal(size=400))


@pytest.mark.tensorflow
def test_steps_of_gradient_descent_are_a_ridge_penalty():
    """In each eigenvector of H: 1 - (1 - rate h)^steps of least squares, and of ridge regression h / (h + alpha).

    The two are equal to first order where alpha = 1 / (rate steps) and steps rate h is small. Gradient descent begins
    with 0, with the loss w' H w / 2.
    """
    (x, y), held = make_data()
    inputs = keras.Input((FEATURES,), dtype="float64")
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype="float64")
    model = keras.Model(inputs, layer(inputs))
    # The mean squared error is twice the loss of the text.
    model.compile(keras.optimizers.SGD(RATE / 2), "mse")
    stopping = EarlyStopping(Patience(10), validation_data=held)
    model.fit(x, y, batch_size=SIZE, epochs=300, verbose=0, callbacks=[stopping])
    steps = stopping.best.step
    assert steps > 5
    assert stopping.reason
    w = keras.ops.convert_to_numpy(layer.kernel)[:, 0]
    hessian, moment = x.T @ x / SIZE, x.T @ y / SIZE
    h, vectors = np.linalg.eigh(hessian)
    least_squares = vectors.T @ np.linalg.solve(hessian, moment)
    np.testing.assert_allclose(vectors.T @ w, (1 - (1 - RATE * h) ** steps) * least_squares, rtol=1e-4, atol=1e-6)
    ridge = np.linalg.solve(hessian + np.eye(FEATURES) / (RATE * steps), moment)
    assert np.linalg.norm(w) < 0.5 * np.linalg.norm(least_squares)
    # With t = steps rate h the factors differ by 1 / (1 + t) - (1 - rate h)^steps <= 1 / (1 + t) - (1 - t).
    t = steps * RATE * h
    assert (np.abs(vectors.T @ (w - ridge)) <= t**2 / (1 + t) * np.abs(least_squares) + 1e-6).all()
    assert np.linalg.norm(w - ridge) < 0.05 * np.linalg.norm(w - vectors @ least_squares)
