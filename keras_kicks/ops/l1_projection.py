"""The Euclidean projection onto the L1 ball."""

from keras import ops


def l1_projection(x, radius, axis=None):
    """Return the point of sum |y| <= radius that is nearest to `x`: x shrunk towards 0 by a threshold.

    What is left of the largest magnitude, u, solves sum max(u - (largest - |x|), 0) = radius, a convex and piecewise
    linear equation: Newton's steps from above end on its root, when no element has fallen below the threshold since the
    last. Each step is one pass over `x`, where a sort takes longer than all of them. All numbers are of the size of
    the radius, so that neither rounding nor range depend on how far outside `x` is.

    Args:
        x: Floating tensor.
        radius: Number > 0.
        axis: Axis or axes that the sum is over; None for all.

    Returns:
        The shape and dtype of `x`. Elements at or below the threshold are 0; where the sum is within the radius,
        `x` is returned bit for bit.
    """
    magnitude = ops.abs(x)
    largest = ops.amax(magnitude, axis=axis, keepdims=True)
    gap = largest - magnitude

    def unfinished(u, count, moved):
        return moved

    def step(u, count, moved):
        above = ops.maximum(u - gap, 0)
        # Integers: float32 does not count beyond 2^24.
        left = ops.sum(ops.cast(above > 0, "int32"), axis=axis, keepdims=True)
        excess = ops.sum(above, axis=axis, keepdims=True) - radius
        newton = u - ops.maximum(excess, 0) / ops.cast(ops.maximum(left, 1), x.dtype)
        return newton, left, ops.any(left != count)

    first = (ops.minimum(largest, radius), ops.cast(ops.zeros_like(largest), "int32") - 1, ops.convert_to_tensor(True))
    u = ops.while_loop(unfinished, step, first)[0]
    shrunk = ops.maximum(u - gap, 0)
    zeros = ops.zeros_like(x)  # Not a product with 0, which is -0.0 for some.
    return ops.where(u < largest, ops.where(shrunk > 0, ops.sign(x) * shrunk, zeros), x)
