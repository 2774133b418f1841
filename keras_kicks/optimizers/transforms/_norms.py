"""Norms of gradients."""

from keras import ops


def norm(x, axis=None, keepdims=False):
    """Return the Euclidean norm, whose gradient nobody asks for."""
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))


def global_norm(tensors):
    """Return the norm of all tensors, taken for one vector, in float32."""
    return ops.sqrt(sum(ops.cast(ops.sum(ops.square(x)), "float32") for x in tensors))


def safe_ratio(x, y):
    """Return x / y, and 0 where y is 0."""
    zero = ops.equal(y, 0)
    return ops.where(zero, ops.zeros_like(y), x / ops.where(zero, ops.ones_like(y), y))
