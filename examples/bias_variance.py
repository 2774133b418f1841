"""Where does the error of a network come from, as it grows, and as it is held back?

TODO
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

import keras_kicks as kk

LOGS = os.environ.get("KERAS_KICKS_LOGS", os.path.join(os.path.dirname(__file__), os.pardir, "logs"))
SAMPLES, NOISE = 32, 0.25  # The variance of the noise: a standard deviation of 0.5.
DEGREES = (0, 1, 2, 3, 4, 5, 7, 9, 11)
WIDTHS = (1, 2, 4, 8, 16, 64)
WEIGHTS = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
X_TEST = np.linspace(-0.98, 0.98, 50)[:, None]


def target(x):
    """Return what is to be learned, without noise."""
    return np.sin(2.5 * np.pi * x) * (1 - 0.3 * x)


def make_data(seed):
    """Return samples with noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(SAMPLES, 1))
    return x, target(x) + np.sqrt(NOISE) * rng.normal(size=x.shape)


def powers(x, degree):
    """Return Legendre polynomials, so that descent finds the least squares of any degree in few steps."""
    return np.polynomial.legendre.legvander(x[:, 0], degree) * np.sqrt(2 * np.arange(degree + 1) + 1)


class LeastSquares:
    """A polynomial, in closed form: what a linear model of that many weights is trained towards."""

    def __init__(self, degree):
        self.degree = degree

    def fit(self, x, y):
        self.weights = np.linalg.lstsq(powers(x, self.degree), y, rcond=None)[0]

    def predict(self, x):
        return powers(x, self.degree) @ self.weights


def network(width):
    """Return a network of one hidden layer."""
    start = keras.initializers.RandomUniform(-3, 3)
    hidden = layers.Dense(width, "tanh", kernel_initializer=start, bias_initializer=start)
    model = keras.Sequential([keras.Input((1,)), hidden, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model


def ridge(weight):
    """Return a wide network whose weights cost."""
    start = keras.initializers.RandomUniform(-3, 3)
    penalty = [kk.regularizers.Ridge(weight, squared=True) for _ in range(2)]
    hidden = layers.Dense(64, "tanh", kernel_initializer=start, bias_initializer=start, kernel_regularizer=penalty[0])
    model = keras.Sequential([keras.Input((1,)), hidden, layers.Dense(1, kernel_regularizer=penalty[1])])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model
