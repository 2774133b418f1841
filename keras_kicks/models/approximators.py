"""Networks with one hidden layer that come near a function by construction, without training."""

import keras
import numpy as np

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number
from keras_kicks.layers.activation.maxout_dense import MaxoutDense


def step_approximator(function, low, high, width, sharpness=40.0, dtype=None):
    """Return a network of steep sigmoids that comes near a continuous function: the theorem's constructive proof.

        g(x) = c_0 + sum_k (c_k - c_(k-1)) sigmoid(s (x - e_k)) = sum_k c_k bump_k(x)
        bump_k(x) = sigmoid(s (x - e_k)) - sigmoid(s (x - e_(k+1)))

    The hidden units are steps at the inner edges e_k of width + 1 equal cells, the values c_k those of the function in
    their middle. Two steps beside each other are a bump over the cell between them. The bumps are nowhere negative
    and sum to 1, so with cells of length h, s = sharpness / h and the modulus of continuity w of the function

        sup |g - f| <= w(h) + 2 (max f - min f) / (1 + exp(sharpness / 2))

    Args:
        function: Function of an array of shape (points,) that returns as many numbers.
        low: Where the interval begins.
        high: Where it ends; beyond, g is constant.
        width: Hidden units, >= 1.
        sharpness: Steepness of the steps times the length of a cell, > 0. At 40 a step goes from 2 % to 98 % of its
            height over a fifth of a cell.
        dtype: Of the layers.

    Returns:
        A built `keras.Sequential` of two dense layers, (batch, 1) to (batch, 1), not compiled.

    Raises:
        TypeError: function is none; a number is none; width is no integer.
        ValueError: expected low < high; width >= 1; sharpness > 0; a finite number for each point.

    Source:
        Cybenko 1989; in this form Nielsen, "Neural Networks and Deep Learning", 2015, chapter 4.

    Example:
        >>> import numpy as np
        >>> model = step_approximator(np.square, 0.0, 1.0, width=99)
        >>> error = np.abs(model.predict(np.array([[0.3], [0.7]]), verbose=0)[:, 0] - [0.09, 0.49]).max()
        >>> bool(error < 0.02)  # Of a function whose slope is 2 at most, in cells of 0.01
        True
    """
    owner = "step_approximator"
    _expect_interval(owner, function, low, high)
    expect_integer(owner, width=width)
    expect(width >= 1, owner, "width >= 1", width=width)
    expect_number(owner, sharpness=sharpness)
    expect(sharpness > 0, owner, "sharpness > 0", sharpness=sharpness)
    edges = np.linspace(low, high, width + 2)
    values = _values(owner, function, (edges[:-1] + edges[1:]) / 2)
    steepness = sharpness * (width + 1) / (high - low)
    hidden = keras.layers.Dense(int(width), "sigmoid", name="steps", dtype=dtype)
    weights = [np.full((1, width), steepness), -steepness * edges[1:-1], np.diff(values)[:, None], values[:1]]
    return _network(owner, hidden, weights, dtype)


def linear_interpolator(function, low, high, pieces, units="relu", dtype=None):
    """Return a network that joins points of a function by straight lines.

        g(x) = f(x_0) + m_0 relu(x - x_0) + sum_k (m_k - m_(k-1)) relu(x - x_k)         for units="relu"
        g(x) = max_k (a_k x + b_k) - max_k (c_k x + d_k)                                for units="maxout"

    with equidistant knots x_k and the slopes m_k between them. The first has a hidden unit for each piece. The second
    has two hidden units of as many pieces each: every such function is the difference of two convex ones, and these
    are maxima of their tangents. With pieces of length h,

        sup |g - f| <= h^2 / 8 max |f''|

    Args:
        function: Function of an array of shape (points,) that returns as many numbers.
        low: Where the interval begins.
        high: Where it ends.
        pieces: Straight lines, >= 1.
        units: "relu" or "maxout".
        dtype: Of the layers. In float32, rounding leaves some 1e-7 of all that the slope changes by.

    Returns:
        A built `keras.Sequential` of two layers, (batch, 1) to (batch, 1), not compiled.

    Raises:
        TypeError: function is none; a number is none; pieces is no integer.
        ValueError: expected low < high; pieces >= 1; units to be one of the two; a finite number for each point.

    Source:
        The error of linear interpolation; Goodfellow, Warde-Farley, Mirza, Courville and Bengio 2013,
        arXiv:1302.4389, section 4.

    Example:
        >>> import numpy as np
        >>> model = linear_interpolator(np.abs, -1.0, 1.0, pieces=2, units="maxout")
        >>> model.predict(np.array([[-0.5], [0.25]]), verbose=0).tolist()
        [[0.5], [0.25]]
    """
    owner = "linear_interpolator"
    _expect_interval(owner, function, low, high)
    expect_integer(owner, pieces=pieces)
    expect(pieces >= 1, owner, "pieces >= 1", pieces=pieces)
    expect_choice(owner, ("relu", "maxout"), units=units)
    knots = np.linspace(low, high, pieces + 1)
    # Where the network has its kinks: there the function is asked for its values.
    knots = knots.astype(input_dtype(dtype)).astype("float64")
    values = _values(owner, function, knots)
    slopes = np.diff(values) / np.diff(knots)
    changes, starts = np.diff(slopes, prepend=0.0), knots[:-1]
    if units == "relu":
        hidden = keras.layers.Dense(int(pieces), "relu", name="kinks", dtype=dtype)
        weights = [np.ones((1, pieces)), -starts, changes[:, None], values[:1]]
        return _network(owner, hidden, weights, dtype)
    changes[0] = 0.0
    parts = np.stack([np.maximum(changes, 0), np.maximum(-changes, 0)], axis=1)
    kernel = np.cumsum(parts, axis=0) + [slopes[0], 0.0]
    bias = -np.cumsum(parts * starts[:, None], axis=0) + [values[0] - slopes[0] * starts[0], 0.0]
    hidden = MaxoutDense(2, pool_size=int(pieces), name="convex", dtype=dtype)
    weights = [kernel.reshape(1, -1), bias.ravel(), np.array([[1.0], [-1.0]]), np.zeros(1)]
    return _network(owner, hidden, weights, dtype)


def _network(name, hidden, weights, dtype):
    output = keras.layers.Dense(1, name="sum", dtype=dtype)
    model = keras.Sequential([keras.Input((1,), dtype=input_dtype(dtype)), hidden, output], name=name)
    model.set_weights(weights)
    return model


def input_dtype(policy):
    """Return the dtype of inputs, and of weights, under a policy, or under the global one."""
    return keras.dtype_policies.get(policy or keras.config.dtype_policy()).variable_dtype


def _expect_interval(owner, function, low, high):
    expect(callable(function), owner, "a function", error=TypeError, function=function)
    expect_number(owner, low=low, high=high)
    expect(low < high, owner, "low < high", low=low, high=high)


def _values(owner, function, x):
    values = np.asarray(function(x), "float64")
    fits = values.shape == x.shape and bool(np.isfinite(values).all())
    expect(fits, owner, f"a finite number for each of {len(x)} points", shape=values.shape)
    return values
