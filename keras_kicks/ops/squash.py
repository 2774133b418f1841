"""The gates of a cell in one pass: sigmoids and hyperbolic tangents are one function, scaled."""

import numpy as np
from keras import ops


def scales(kinds, units, dtype):
    """Return the scale of each column: 1 / 2 for a sigmoid ("s"), 1 for a hyperbolic tangent ("t").

    Args:
        kinds: One letter for each block of `units` columns.
        units: Columns of a block.
        dtype: Of the result.
    """
    return ops.convert_to_tensor(np.repeat([0.5 if kind == "s" else 1.0 for kind in kinds], units), dtype=dtype)


def squash(z, scale):
    """Return sigmoid(z) = tanh(z / 2) / 2 + 1 / 2, or tanh(z), by the scale of each column."""
    return scale * ops.tanh(scale * z) + (1 - scale)


def slope(a, scale):
    """Return the derivative of `squash` from its value: a (1 - a) for a sigmoid, 1 - a^2 for a hyperbolic tangent."""
    return (1 - a) * (a + (2 * scale - 1))
