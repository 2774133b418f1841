"""The variance of nested replicates, split into what each level adds."""

from typing import NamedTuple

import numpy as np

from keras_kicks.diagnostics.u_statistics import mean_over_pairs


class Part(NamedTuple):
    """One part of the expected loss.

    Args:
        value: Mean over the test points. An unbiased estimate of something small may be negative.
        standard_error: Of the value.
        per_point: The estimates of which it is the mean, shape (points,).
    """

    value: float
    standard_error: float
    per_point: np.ndarray


def variance_parts(predictions, names):
    """Split the variance of predictions by the law of total variance.

        Var(f) = Var(E[f | a]) + E Var(E[f | a, b] | a) + E Var(f | a, b)

    for replicates b within each replicate a. The variance of the means of n replicates has 1 / n of what is below
    them in it; that is taken off, so that each part is unbiased.

    Args:
        predictions: float64 array, shape (n1, n2, ..., points, outputs); the replicates of the first level are
            independent, n1 >= 2.
        names: Of the levels. A level with a single replicate is joined with the one above it.

    Returns:
        `Part` by name: "variance", and the levels if there are several.
    """
    levels, nested = merged(predictions, names)
    # own[i]: the variance of means at level i around the one above. Kernels: functions of pairs of groups.
    means, own = nested, []
    for i in reversed(range(len(levels))):
        spread = means.var(axis=i, ddof=1).mean(axis=-1)
        own.insert(0, spread.mean(axis=tuple(range(1, i))) if i else spread)
        means = means.mean(axis=i)
    points = [variance if i == 0 else variance.mean(axis=0) for i, variance in enumerate(own)]
    kernels = [_distances(nested.mean(axis=tuple(range(1, len(levels)))))]
    kernels += [(v.mean(axis=1)[:, None] + v.mean(axis=1)[None, :]) / 2 for v in own[1:]]
    for i in range(len(levels) - 1):
        count = nested.shape[i + 1]
        points[i], kernels[i] = points[i] - points[i + 1] / count, kernels[i] - kernels[i + 1] / count
    split = {name: Part(*mean_over_pairs(k), p) for name, k, p in zip(levels, kernels, points, strict=True)}
    return {"variance": Part(*mean_over_pairs(sum(kernels)), sum(points)), **(split if len(levels) > 1 else {})}


def merged(predictions, names):
    """Return the names of the levels with several replicates, and the predictions without the other axes."""
    levels = []
    for name, size in zip(names, predictions.shape, strict=False):
        if size > 1:
            levels.append([name])
        else:
            levels[-1].append(name)
    sizes = [size for size in predictions.shape[: len(names)] if size > 1]
    joined = [", ".join(level[:-1]) + " and " + level[-1] if len(level) > 1 else level[0] for level in levels]
    return joined, predictions.reshape(*sizes, *predictions.shape[len(names) :])


def _distances(groups):
    """Return half of the mean squared distances of pairs of groups: the variance, in the mean over pairs."""
    flat = (groups - groups.mean(axis=0)).reshape(len(groups), -1)
    inner = flat @ flat.T / flat.shape[1]
    squares = np.diag(inner)
    return (squares[:, None] + squares[None, :]) / 2 - inner
