"""Smoothed targets, for use with any loss."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_rate
from keras_kicks.ops.random import draw_uniform, uniform_from

NOISES = ("uniform", "prior", "random")


@keras.saving.register_keras_serializable(package="keras_kicks")
def smooth_labels(y, alpha=0.1, noise="uniform", class_prior=None, num_classes=None, seed=None):
    """Mix labels with noise: q = (1 - alpha) onehot(y) + alpha xi.

    `xi` is 1 / classes for every class ("uniform"), the frequency of each class ("prior"), or drawn for each sample
    from the uniform distribution on the simplex ("random").

    Args:
        y: One-hot labels of shape (..., classes), or, with `num_classes`, class ids of shape (...).
        alpha: Share of the noise, in [0, 1).
        noise: "uniform", "prior" or "random".
        class_prior: Probability of each class, for noise="prior" alone: not negative, with the sum 1.
        num_classes: Number of classes; says that `y` holds class ids. An id outside [0, num_classes) becomes a row
            of NaN.
        seed: None, an integer (the same noise on every call) or a `keras.random.SeedGenerator`, for noise="random".

    Returns:
        float32 tensor of shape (..., classes).

    Raises:
        TypeError: `alpha` is no number, `num_classes` no integer.
        ValueError: expected 0 <= alpha < 1; a known noise; class_prior with noise="prior" alone, not negative, with
            the sum 1 and an entry for each class; one-hot labels of a known number of classes; 2 classes or more.

    Source:
        Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision",
        2016, arXiv:1512.00567 ("uniform" and "prior").

    Example:
        >>> targets = smooth_labels([2, 0], alpha=0.4, num_classes=4)
        >>> print(keras.ops.convert_to_numpy(targets).round(2))
        [[0.1 0.1 0.7 0.1]
         [0.7 0.1 0.1 0.1]]
    """
    owner = "smooth_labels"
    class_prior = check_smoothing(owner, alpha, noise, class_prior)
    if num_classes is None:
        targets = ops.convert_to_tensor(y, dtype="float32")
        num_classes = targets.shape[-1] if len(targets.shape) else None
        expect(num_classes is not None, owner, "one-hot labels of a known number of classes", y=y)
    else:
        expect_integer(owner, num_classes=num_classes)
        ids = ops.convert_to_tensor(y)
        # Before the cast, which would wrap a large id around.
        known = ops.logical_and(ids >= 0, ids < num_classes)
        ids = ops.cast(ops.where(known, ids, ops.zeros_like(ids)), "int32")
        targets = ops.one_hot(ids, num_classes, dtype="float32")
        targets = ops.where(ops.expand_dims(known, axis=-1), targets, float("nan"))
    check_classes(owner, num_classes, class_prior)
    if noise == "random":
        xi = simplex(_uniform(ops.shape(targets), seed))
    else:
        xi = 1 / num_classes if noise == "uniform" else ops.convert_to_tensor(class_prior, dtype="float32")
    return (1 - alpha) * targets + alpha * xi


def _uniform(shape, seed):
    """Draw numbers in (0, 1)."""
    if seed is None:
        return ops.maximum(keras.random.uniform(shape), 2.0**-24)
    if isinstance(seed, keras.random.SeedGenerator):
        return draw_uniform(shape, seed)
    return uniform_from(shape, seed, ops.zeros((), "int32"))


def simplex(uniform):
    """Turn numbers in (0, 1) into points of the simplex, uniformly distributed: exponentials over their sum."""
    exponential = -ops.log(uniform)
    return exponential / ops.sum(exponential, axis=-1, keepdims=True)


def check_smoothing(owner, alpha, noise, class_prior):
    """Raise unless the arguments fit; return `class_prior` as a list of floats or None."""
    expect_rate(owner, alpha=alpha)
    expect_choice(owner, NOISES, noise=noise)
    if noise != "prior":
        expect(class_prior is None, owner, 'class_prior with noise="prior" alone', noise=noise, class_prior=class_prior)
        return None
    expect(class_prior is not None, owner, 'a class_prior for noise="prior"', class_prior=class_prior)
    prior = [float(p) for p in class_prior]
    probabilities = all(p >= 0 for p in prior) and math.isclose(sum(prior), 1, abs_tol=1e-5)
    remedy = "Divide the counts of the classes by their sum."
    expect(probabilities, owner, "class_prior of entries >= 0 with the sum 1", remedy, class_prior=class_prior)
    return prior


def check_classes(owner, num_classes, class_prior):
    """Raise unless there are two classes or more, and as many as the prior has."""
    expect(num_classes >= 2, owner, "2 classes or more", "One output has nothing to smooth.", num_classes=num_classes)
    if class_prior is not None:
        expect(
            len(class_prior) == num_classes,
            owner,
            "an entry of class_prior for each class",
            entries=len(class_prior),
            num_classes=num_classes,
        )
