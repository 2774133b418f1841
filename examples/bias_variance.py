"""Where does the error of a network come from, as it grows, and as it is held back?

On 40 noisy samples of a curve, with a loss of 0.25 that is noise, polynomials have the least loss at degree 5 (0.319,
exact least squares): below, bias^2 rules (0.54 at degree 0), above, the variance (1.4 at degree 8, 19 at 10). Networks
of 1, 2, 4, 8 and 64 hidden units have 0.73, 0.51, 0.337, 0.315 and 0.339 +- 0.01: bias^2 falls from 0.35 to 0.003; the
variance is 0.14 with 2 units, mostly due to the initial weights (0.11), falls to 0.061 with 8, and is 0.085 with 64:
0.071 due to the data, 0.015 to the order of the batches, nothing to the initial weights. For 64 units the best weight
of ridge of five is 0.001: a variance of 0.066, at a bias^2 of 0.010. With a weight of 0.1 bias^2 is 0.51.
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
SAMPLES, NOISE = 40, 0.25  # The variance of the noise: a standard deviation of 0.5.
DEGREES = (0, 1, 2, 3, 4, 5, 6, 8, 10)
WIDTHS = (1, 2, 4, 8, 64)
WEIGHTS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
X_TEST = np.linspace(-0.98, 0.98, 50)[:, None]


def target(x):
    """Return what is to be learned, without noise."""
    return np.sin(1.5 * np.pi * x) + 0.5 * x


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
        """Solve for the weights."""
        self.weights = np.linalg.lstsq(powers(x, self.degree), y, rcond=None)[0]

    def predict(self, x):
        """Return the values of the polynomial."""
        return powers(x, self.degree) @ self.weights


def network(width, weight=0.0):
    """Return a network of one hidden layer, with a penalty on its kernels."""
    starts = [keras.initializers.RandomUniform(-3, 3) for _ in range(2)]
    penalties = [kk.regularizers.Ridge(weight, squared=True) for _ in range(2)]
    hidden = layers.Dense(width, "tanh", True, *starts, penalties[0])
    model = keras.Sequential([keras.Input((1,)), hidden, layers.Dense(1, kernel_regularizer=penalties[1])])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model


def main():
    """Decompose the error over the degree, over the width, and over the weight of ridge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few data sets and epochs, to see that it runs")
    smoke = parser.parse_args().smoke
    folder = os.path.join(LOGS, "bias_variance", time.strftime("%Y%m%d-%H%M%S"))
    closed = {"data_sets": 5 if smoke else 500, "initializations": 1, "orders": 1}
    trained = {"data_sets": 3 if smoke else 16, "batch_size": 8, "epochs": 2 if smoke else 200}
    few = slice(0, 2) if smoke else slice(None)
    curves = {
        "degree": (LeastSquares, DEGREES[few], closed),
        "hidden units": (network, WIDTHS[few], trained),
        "weight of ridge, 64 units": (lambda weight: network(64, weight), WEIGHTS[few], trained),
    }
    for label, (build_fn, values, sizes) in curves.items():
        start = time.perf_counter()
        curve = kk.diagnostics.bias_variance_curve(
            build_fn, values, make_data, X_TEST, target, noise=NOISE, label=label, **sizes
        )
        curve.write(os.path.join(folder, label.replace(",", "").replace(" ", "_")))
        print(f"{curve}\nbest: {label} {curve.best:g}   ({time.perf_counter() - start:.0f} s)\n", flush=True)
        if label == "hidden units":
            largest = values[-1]
            curve[largest].write(os.path.join(folder, "largest_network"))
            print(f"{largest} hidden units\n{curve[largest]}\n", flush=True)
    print("To look at the pictures: make tensorboard   (or: tensorboard --logdir logs)")


if __name__ == "__main__":
    main()
