"""Norms with finite gradients everywhere."""

import math

from keras import ops


def lp_norm(x, p):
    """Return (sum |x|^p)^(1/p) over all elements, or max |x| for an infinite p.

    Magnitudes are divided by the largest one first, so that no power leaves the range of the dtype. The gradient by an
    element that is 0 is 0; with several largest magnitudes, an infinite p shares it among them.

    Args:
        x: Floating tensor.
        p: Number > 0.
    """
    x = ops.convert_to_tensor(x)
    magnitude = x * ops.stop_gradient(ops.sign(x))  # The gradient of `abs` at 0 is 1 on JAX.
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
