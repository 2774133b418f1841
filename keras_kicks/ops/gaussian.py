"""The Gaussian that a vector of outputs stands for."""

import math

from keras import ops

LOG_2_PI = math.log(2 * math.pi)
FORMS = ("softplus", "log")


def gaussian_parameters(outputs, form, min_variance):
    """Return mean and variance: the first half of the last axis, and a positive function of the second.

    Args:
        outputs: Shape (..., 2 size), floating.
        form: "softplus" for log(1 + exp(raw)), "log" for exp(raw).
        min_variance: Added to the variance.

    Returns:
        Two tensors of shape (..., size).
    """
    mean, raw = ops.split(outputs, 2, axis=-1)
    variance = ops.softplus(raw) if form == "softplus" else ops.exp(raw)
    return mean, variance + min_variance
