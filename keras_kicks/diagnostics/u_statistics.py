"""Means over groups and over pairs of groups, with standard errors."""

import math

import numpy as np


def mean_over_groups(values):
    """Return the mean of independent values, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def mean_over_pairs(kernel):
    """Return the mean of a function of pairs of independent groups, and its standard error.

    Such a mean is a U-statistic of degree 2, with variance 4 d1 / n + 2 d2 / (n (n - 1)): d1 is that of the part of the
    function that depends on one group, d2 of what depends on both. d2 is estimated by what an additive fit leaves, d1
    by the jackknife less what d2 adds to it. Both are unbiased, and so is the square of the error, but for one thing:
    a d1 below 0 counts as 0. The jackknife alone takes the d2 part twice.

    Args:
        kernel: Values of the function, shape (n, n), symmetric; the diagonal is not used.

    Returns:
        The mean and the standard error; with 3 groups that is the jackknife's, with 2 it is NaN.

    Source:
        Hoeffding 1948; Efron and Stein 1981.
    """
    n = len(kernel)
    pairs = ~np.eye(n, dtype=bool)
    sums = np.where(pairs, kernel, 0.0).sum(axis=1)
    mean = sums.sum() / (n * (n - 1))
    if n < 3:
        return float(mean), math.nan
    off = sums - sums.mean()
    jackknife = 4 * np.sum(np.square(off)) / (n * (n - 1) * (n - 2) ** 2)
    if n == 3:
        return float(mean), math.sqrt(jackknife)
    own = off / (n - 2)
    left = np.where(pairs, kernel - mean - own[:, None] - own[None, :], 0.0)
    d2 = np.sum(np.square(left)) / 2 / (n * (n - 3) / 2)
    d1 = max(n / 4 * jackknife - d2 / (n - 2), 0.0)
    return float(mean), math.sqrt(4 * d1 / n + 2 * d2 / (n * (n - 1)))
