"""The parts of the squared loss over capacity, or over the weight of a regularizer."""

import functools

from keras_kicks._errors import expect
from keras_kicks.diagnostics.bias_variance_curve_result import BiasVarianceCurve
from keras_kicks.diagnostics.decompose import bias_variance


def bias_variance_curve(build_fn, values, make_data, x_test, target=None, *, label="value", **arguments):
    """Decompose the squared loss for each value of one setting: the U-curve.

    The seeds are the same for all values, so that what two of them differ by has less noise than each.

    Args:
        build_fn: Function of a value, and of a seed if it has an argument of that name or a second one without a
            default, that returns what `bias_variance` takes from its `build_fn`.
        values: Numbers, such as units, degrees or weights of a regularizer, in the order of the picture; at least one.
        make_data: As for `bias_variance`.
        x_test: As for `bias_variance`.
        target: As for `bias_variance`.
        label: What the values are: a text for the picture.
        **arguments: Other arguments of `bias_variance`; with `seed=None` the seeds are not the same.

    Returns:
        A `BiasVarianceCurve`: a `BiasVariance` for each value, the best of them, a table when printed, a picture.

    Raises:
        TypeError: build_fn is no function, or what `bias_variance` raises.
        ValueError: expected values, each once; or what `bias_variance` raises.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.diagnostics import bias_variance_curve
        >>> class Polynomial:
        ...     def __init__(self, degree):
        ...         self.degree = degree
        ...     def fit(self, x, y):
        ...         self.fitted = np.polynomial.Polynomial.fit(x, y, self.degree)
        ...     def predict(self, x):
        ...         return self.fitted(x)
        >>> def make_data(seed):
        ...     rng = np.random.default_rng(seed)
        ...     x = rng.uniform(-1, 1, size=30)
        ...     return x, x**2 + 0.3 * rng.normal(size=30)
        >>> x, sizes = np.linspace(-0.9, 0.9, 20), {"initializations": 1, "orders": 1, "data_sets": 50}
        >>> curve = bias_variance_curve(Polynomial, [1, 2, 8], make_data, x, np.square, noise=0.09, **sizes)
        >>> curve.best
        2
    """
    owner = "bias_variance_curve"
    expect(callable(build_fn), owner, "a function for build_fn", error=TypeError, build_fn=build_fn)
    values = list(values)
    expect(0 < len(values) == len(set(values)), owner, "values, each once", values=values)
    results = tuple(
        bias_variance(functools.partial(build_fn, value), make_data, x_test, target, **arguments) for value in values
    )
    return BiasVarianceCurve(tuple(values), results, label)
