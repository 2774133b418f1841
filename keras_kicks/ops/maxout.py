"""The maximum over the pieces of a maxout unit."""

import functools

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster


def maxout(x, pool_size, grouping):
    """Return the maximum of each group of `pool_size` entries of the last axis.

    The gradient goes to the largest entry, on a tie to the first of them.

    Args:
        x: Shape (..., units * pool_size).
        pool_size: Entries of a group; divides the last axis.
        grouping: "consecutive": unit j takes the entries j k, ..., j k + k - 1 (k = pool_size); "strided": the
            entries j, j + units, ..., j + (k - 1) units.

    Returns:
        Shape (..., units).
    """
    # The index of an entry is kept in a byte.
    if keras.backend.backend() == "torch" or pool_size > 127:
        return maxout_reference(x, pool_size, grouping)
    return _kernel(pool_size, grouping)(x)


def maxout_reference(x, pool_size, grouping):
    """The same from the definition: what `maxout` is tested against, but for the gradient on ties."""
    if grouping == "consecutive":
        return ops.max(ops.reshape(x, (*ops.shape(x)[:-1], -1, pool_size)), axis=-1)
    return ops.max(ops.reshape(x, (*ops.shape(x)[:-1], pool_size, -1)), axis=-2)


@functools.cache
def _kernel(pool_size, grouping):
    def pieces(x):
        units = x.shape[-1] // pool_size
        if grouping == "consecutive":
            return [x[..., i::pool_size] for i in range(pool_size)]
        return [x[..., i * units : (i + 1) * units] for i in range(pool_size)]

    @cluster
    def forward(x):
        first, *others = pieces(x)
        y, winner = first, ops.zeros_like(first, dtype="int8")
        for i, piece in enumerate(others, start=1):
            winner = ops.where(piece > y, ops.cast(i, "int8"), winner)
            y = ops.maximum(y, piece)
        return y, winner

    @cluster
    def backward(upstream, winner):
        none = ops.zeros_like(upstream)
        grads = [ops.where(ops.equal(winner, ops.cast(i, "int8")), upstream, none) for i in range(pool_size)]
        if grouping == "consecutive":
            stacked = ops.stack(grads, axis=-1)
            return ops.reshape(stacked, (*ops.shape(upstream)[:-1], pool_size * upstream.shape[-1]))
        return ops.concatenate(grads, axis=-1)

    @ops.custom_gradient
    def maximum(x):
        # The winner of each unit is all that is kept for the backward pass.
        y, winner = forward(x)

        def gradient(upstream):
            return backward(upstream, winner)

        return y, gradient

    return maximum
