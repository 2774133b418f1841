"""A scalar of what a model returns, for want of a loss."""

import keras
import numpy as np
from keras import ops, tree

from keras_kicks._errors import expect
from keras_kicks.ops.keras_mask import get_mask


def projection(owner, outputs, lengths):
    """Return r . output, summed over samples and outputs; r is random, of length 1, and the same in every call.

    Args:
        owner: Name of the function that asks.
        outputs: Tensors in any structure; the floating ones count.
        lengths: Numbers of steps. Of an output whose second axis is that long, the last step counts that is not
            masked.

    Raises:
        ValueError: expected a model with a floating output.
    """
    outputs = [y for y in tree.flatten(outputs) if keras.backend.is_float_dtype(y.dtype)]
    expect(bool(outputs), owner, "a model with a floating output", "Pass a loss.", outputs=len(outputs))
    total = 0.0
    for y in outputs:
        if len(y.shape) > 2 and y.shape[1] in lengths:
            y = _last_step(y, get_mask(y))
        r = np.random.default_rng(0).normal(size=tuple(y.shape[1:]))
        wide = "float64" if keras.backend.standardize_dtype(y.dtype) == "float64" else "float32"
        total += ops.sum(ops.cast(y, wide) * ops.convert_to_tensor(r / np.sqrt(np.sum(r**2)), dtype=wide))
    return total


def _last_step(y, mask):
    if mask is None:
        return y[:, -1]
    steps = y.shape[1]
    last = steps - 1 - ops.argmax(ops.cast(ops.flip(mask, axis=1), "int32"), axis=1)
    chosen = ops.reshape(ops.one_hot(last, steps, dtype=y.dtype), (-1, steps, *[1] * (len(y.shape) - 2)))
    return ops.sum(y * chosen, axis=1)
