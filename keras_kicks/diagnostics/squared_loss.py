"""The parts of the expected squared loss, from predictions of nested replicates."""

import math

import numpy as np

from keras_kicks.diagnostics.nested_variance import Part, merged, variance_parts
from keras_kicks.diagnostics.u_statistics import mean_over_groups, mean_over_pairs


def loss_parts(predictions, names, targets, noise, exact):
    """Return bias^2, noise, variance and the loss; each is unbiased, and the first three sum to the last.

    The loss is the mean squared error of the predictions, and with exact targets the noise. The square of the mean
    error has Var(mean) in it, and with observed targets their noise; these are taken off bias^2.

    Args:
        predictions: float64 array, shape (n1, n2, ..., points, outputs), as for `variance_parts`.
        names: Of the levels of replicates.
        targets: Shape (observations, points, outputs).
        noise: Variance of the noise, shape (points,), or None where it is not known. With several observations it is
            estimated.
        exact: Whether the targets are without noise.

    Returns:
        `Part` by name: "bias^2" and "noise", or "bias^2 + noise" where these cannot be told apart, those of
        `variance_parts`, and "loss".
    """
    _, nested = merged(predictions, names)
    replicates = tuple(range(1, nested.ndim - 2))
    means, truth, observations = nested.mean(axis=replicates), targets.mean(axis=0), len(targets)
    off = means - truth
    bias = (np.square(off.mean(axis=0)) - off.var(axis=0, ddof=1) / len(off)).mean(axis=1)
    squares = np.square(nested - truth).mean(axis=(*replicates, nested.ndim - 1))
    loss, noise_error = squares.mean(axis=0), 0.0
    if observations > 1:
        noise = targets.var(axis=0, ddof=1).mean(axis=1)
        noise_error = _over_points(noise)
        loss = loss + noise * (1 - 1 / observations)
    elif exact and noise is not None:
        loss = loss + noise
    together = noise is None and not exact
    if not exact and not together:
        bias = bias - noise / observations
    flat = off.reshape(len(off), -1)
    errors = [mean_over_pairs(flat @ flat.T / flat.shape[1])[1], mean_over_groups(squares.mean(axis=1))[1]]
    if not exact:
        errors = [math.hypot(errors[0], _over_points(bias)), math.hypot(errors[1], _over_points(loss))]
    parts = {"bias^2 + noise" if together else "bias^2": Part(float(bias.mean()), errors[0], bias)}
    if noise is not None:
        parts["noise"] = Part(float(noise.mean()), noise_error, noise)
    parts.update(variance_parts(predictions, names))
    parts["loss"] = Part(float(loss.mean()), errors[1], loss)
    return parts


def _over_points(values):
    """Return the standard error of a mean over test points that are a sample; NaN for a single one."""
    return mean_over_groups(values)[1] if len(values) > 1 else math.nan
