"""How far a model is from a function, at most."""

from typing import NamedTuple

import keras
import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_number

PART = 4096  # Points at a time. Without `predict`, which takes longer to trace a small model than to run it.


class SupError(NamedTuple):
    """The largest error that was found.

    Args:
        value: The error.
        at: Where it is: the input, shape (inputs,).
    """

    value: float
    at: np.ndarray


def sup_error(model, function, low, high, points=20001, zooms=2):
    """Return the largest distance of a model from a function on an interval or a box: the maximum norm.

    It is taken on a grid, then on finer ones around the worst point. The result is a lower bound of the supremum: what
    is narrower than the spacing of the first grid may go unseen.

    Args:
        model: A Keras model of one input of shape (batch, inputs), or a function of an array of that shape.
        function: What it is compared with: function of an array of shape (points, inputs), or (points,) for a single
            input, that returns a number or more for each point. It is asked at the inputs in float32, as the model
            is.
        low: Where the interval begins, or one number for each input.
        high: Where it ends, likewise.
        points: Points of each grid, in all; >= 2. Along each of d inputs there are the d-th root of it.
        zooms: Finer grids, >= 0; the first reaches from the worst point to its neighbours.

    Returns:
        `SupError`: the `value`, and `at` which input.

    Raises:
        TypeError: a number is none; points or zooms is no integer.
        ValueError: expected low < high; points >= 2; zooms >= 0; as many values of the function as of the model, all of
            them finite.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.diagnostics import sup_error
        >>> round(sup_error(lambda x: 1 - x, lambda x: np.exp(-x), 0.0, 1.0).value, 6)  # exp(-1) - 0
        0.367879
    """
    owner = "sup_error"
    low, high = _checked(owner, low=low), _checked(owner, high=high)
    expect(low.shape == high.shape and bool((low < high).all()), owner, "low < high", low=low, high=high)
    expect_integer(owner, points=points, zooms=zooms)
    expect(points >= 2, owner, "points >= 2", points=points)
    expect(zooms >= 0, owner, "zooms >= 0", zooms=zooms)
    count = max(2, round(points ** (1 / len(low))))
    best, begin, end = SupError(-1.0, low), low, high
    for _ in range(zooms + 1):
        grid = np.meshgrid(*(np.linspace(a, b, count) for a, b in zip(begin, end, strict=True)), indexing="ij")
        x = np.stack([axis.ravel() for axis in grid], axis=1).astype("float32")
        errors = _errors(owner, model, function, x)
        worst = int(errors.argmax())
        if errors[worst] > best.value:
            best = SupError(float(errors[worst]), x[worst].astype("float64"))
        spacing = (end - begin) / (count - 1)
        begin, end = np.maximum(best.at - spacing, low), np.minimum(best.at + spacing, high)
    return best


def _errors(owner, model, function, x):
    exact = x.astype("float64")
    truth = np.asarray(function(exact[:, 0] if x.shape[1] == 1 else exact), "float64")
    if isinstance(model, keras.Model):
        parts = [model(keras.ops.convert_to_tensor(x[i : i + PART]), training=False) for i in range(0, len(x), PART)]
        found = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts]).astype("float64")
    else:
        found = np.asarray(model(exact), "float64")
    fits = len(x) == len(found) == len(truth) and found.size == truth.size
    expect(fits, owner, "as many values of the function as of the model", shapes=[truth.shape, found.shape])
    errors = np.abs(found.reshape(len(x), -1) - truth.reshape(len(x), -1)).max(axis=1)
    unknown = np.flatnonzero(~np.isfinite(errors))
    expect(not len(unknown), owner, "finite values", at=x[unknown[:1]].tolist())
    return errors


def _checked(owner, **bound):
    ((name, value),) = bound.items()
    for number in np.ravel(value).tolist():
        expect_number(owner, **{name: number})
    array = np.atleast_1d(np.asarray(value, "float64"))
    expect(array.ndim == 1 and len(array) > 0, owner, f"a number for {name}, or one for each input", **bound)
    return array
