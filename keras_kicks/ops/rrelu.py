"""The slope that a randomized leaky ReLU multiplies each element with."""

import functools

from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.random import LEVELS


def random_slopes(x, levels, lower, upper):
    """Return 1 where x > 0, elsewhere lower + (upper - lower) u with u = (level + 1/2) / LEVELS.

    Args:
        x: Floating tensor.
        levels: int32 of the same shape, from `draw_levels`.
        lower: Smallest slope.
        upper: Largest slope.

    Returns:
        The shape and dtype of `x`.
    """
    return _kernel(lower, upper)(x, levels)


@functools.cache
def _kernel(lower, upper):
    step = (upper - lower) / LEVELS

    @cluster
    def slopes(x, levels):
        negative = ops.cast(levels, "float32") * step + (lower + step / 2)
        return ops.cast(ops.where(x > 0, 1.0, negative), x.dtype)

    return slopes
