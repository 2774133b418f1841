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
    if keras.backend.backend() == "torch":
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
        return functools.reduce(ops.maximum, pieces(x))

    @cluster
    def backward(upstream, x, y):
        free = ops.ones_like(y, dtype="bool")
        grads = []
        for piece in pieces(x):
            wins = ops.logical_and(free, ops.equal(piece, y))
            free = ops.logical_and(free, ops.logical_not(wins))
            grads.append(ops.where(wins, upstream, ops.zeros_like(upstream)))
        if grouping == "consecutive":
            return ops.reshape(ops.stack(grads, axis=-1), ops.shape(x))
        return ops.concatenate(grads, axis=-1)

    @ops.custom_gradient
    def maximum(x):
        y = forward(x)

        def gradient(upstream):
            return backward(upstream, x, y)

        return y, gradient

    return maximum
