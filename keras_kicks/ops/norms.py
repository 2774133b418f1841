"""Norms with finite gradients everywhere."""

import math

import keras
from keras import ops

# Below this sum, and above all finite ones, the powers of some elements have left the range.
_SMALL = 1e-20
# From so many elements on, passes over the memory take longer than the calls of operations.
_LARGE = 2**16


def lp_norm(x, p):
    """Return (sum |x|^p)^(1/p) over all elements, or max |x| for an infinite p.

    No power leaves the range of the dtype. The gradient by an element that is 0 is 0; with several largest magnitudes,
    an infinite p shares it among them.

    Args:
        x: Floating tensor.
        p: Number > 0.
    """
    x = ops.convert_to_tensor(x)
    if 0 in x.shape:
        return ops.sum(ops.abs(x))  # Of nothing.
    if p not in (2, 3, 4) or not _is_wide(x) or keras.backend.backend() != "tensorflow":
        # JAX makes few passes of many by itself; on torch Keras calls custom gradients otherwise.
        return scaled_norm(x, p)

    @ops.custom_gradient
    def norm(x):
        value = _norm(x, p)

        def gradient(upstream):
            inverse = 1 / ops.where(value > 0, value, ops.ones_like(value))
            if p == 2:
                return x * (upstream * inverse)
            share = x * inverse
            return _power(ops.abs(share), p - 2) * share * upstream

        return value, gradient

    # Its value: TensorFlow refuses a variable itself there, which is what an eager step hands on.
    return norm(ops.copy(x))


def squared_norm(x, p):
    """Return the square of that; for p = 2 without the root, which the square would undo."""
    x = ops.convert_to_tensor(x)
    return sum_of_squares(x) if p == 2 and _is_wide(x) else ops.square(lp_norm(x, p))


def sum_of_squares(x):
    """Return sum x^2 over all elements of a float32 or float64 tensor."""
    if keras.backend.backend() == "tensorflow" and math.prod(size or 1 for size in x.shape) >= _LARGE:
        import tensorflow as tf

        # One pass over the memory, and one for the gradient. It has no rule for `tf.vectorized_map`.
        return 2.0 * tf.nn.l2_loss(x)
    return ops.sum(ops.square(x))


def scaled_norm(x, p):
    """Return the same for any p, with every magnitude divided by the largest one first: more passes over `x`."""
    # The gradient of `abs` at 0 is 1 on JAX.
    magnitude = x * ops.stop_gradient(ops.sign(x)) if keras.backend.backend() == "jax" else ops.abs(x)
    if p == math.inf:
        return ops.amax(magnitude)
    if p == 1:
        return ops.sum(magnitude)
    largest = ops.stop_gradient(ops.amax(magnitude))
    one = ops.ones_like(largest)
    largest = ops.where(largest > 0, largest, one)
    there = ops.not_equal(magnitude, 0)  # So is NaN, which must not be lost.
    # A power of 0 has no finite slope for p < 1: it is not taken, and not differentiated.
    share = ops.where(there, magnitude, ops.ones_like(magnitude)) / largest
    powers = ops.square(share) if p == 2 else ops.power(share, p)
    total = ops.sum(ops.where(there, powers, ops.zeros_like(powers)))
    some = ops.not_equal(total, 0)
    root = ops.power(ops.where(some, total, one), 1 / p)
    return largest * ops.where(some, root, ops.zeros_like(root))


def _is_wide(x):
    return keras.backend.standardize_dtype(x.dtype) in ("float32", "float64")


def _norm(x, p):
    total = sum_of_squares(x) if p == 2 else ops.sum(_power(ops.abs(x) if p == 3 else x, p))
    fits = ops.logical_and(total > _SMALL, ops.isfinite(total))
    return ops.cond(fits, lambda: ops.power(total, 1 / p), lambda: scaled_norm(x, p))


def _power(x, p):
    """Return a power of 1, 2, 3 or 4, by products."""
    if p == 1:
        return x
    square = ops.square(x)
    if p == 2:
        return square
    return square * x if p == 3 else ops.square(square)
