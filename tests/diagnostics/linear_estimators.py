"""Estimators whose bias and variance are known: linear in the targets, at inputs that are always the same."""

import numpy as np


class FixedDesign:
    """The same 25 inputs each time, with new noise.

    The prediction at x is h(x) . y, so its mean is h(x) . E y and its variance noise |h(x)|^2.
    """

    def __init__(self):
        rng = np.random.default_rng(5)
        self.noise = 0.5
        self.x, self.x_test = rng.normal(size=(25, 4)), rng.normal(size=(6, 4))
        self.coefficients = np.array([1.0, -2.0, 0.5, 0.0])
        self.target = self.x_test @ self.coefficients

    def make_data(self, seed):
        noise = np.sqrt(self.noise) * np.random.default_rng(seed).normal(size=len(self.x))
        return self.x, self.x @ self.coefficients + noise

    def ridge(self, weight):
        """Return the bias and the variance of ridge regression at the test points."""
        values, vectors = np.linalg.eigh(self.x.T @ self.x)
        bias = -(self.x_test @ vectors * (weight / (values + weight))) @ (vectors.T @ self.coefficients)
        variance = self.noise * (self.x_test @ vectors) ** 2 @ (values / (values + weight) ** 2)
        return bias, variance


class Ridge:
    """Minimum of |y - X w|^2 + weight |w|^2."""

    def __init__(self, weight):
        self.weight = weight

    def fit(self, x, y):
        self.w = np.linalg.solve(x.T @ x + self.weight * np.eye(x.shape[1]), x.T @ y)

    def predict(self, x):
        return x @ self.w


class Polynomial:
    """Least squares in x, ..., x^degree."""

    def __init__(self, degree):
        self.degree = degree

    def fit(self, x, y):
        self.fitted = np.polynomial.Polynomial.fit(x, y, self.degree, domain=[-1, 1])

    def predict(self, x):
        return self.fitted(x)
