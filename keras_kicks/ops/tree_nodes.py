"""The nodes of a batch of trees, sorted by their height, and pieces of them."""

import keras
from keras import ops


class TreeNodes:
    """The nodes of a batch and what belongs to them.

    Args:
        heights: int32, shape (count,), -1 for padding.
        children: int32, shape (count, arity); `count` stands for a missing child.
        inputs: Features, shape (count, features).
        noise: What the states of a node's children are multiplied with, shape (count, units), or None.
    """

    def __init__(self, heights, children, inputs, noise=None):
        self.count = ops.shape(heights)[0]
        self.heights, self.children, self.inputs, self.noise = heights, children, inputs, noise
        self.first, self.first_inner = _count(heights < 0), _count(heights <= 0)

    def sorted(self):
        """Return the nodes in the order of their heights."""
        return ops.cast(ops.argsort(self.heights), "int32")

    def level(self, node):
        """Return where the nodes of this node's height begin and end in the sorted order."""
        height = ops.take(self.heights, node)
        return _count(self.heights < height), _count(self.heights <= height)

    def piece(self, order, start, stop, length):
        """Return `length` nodes from the sorted order, and `count` for those that are not before `stop`."""
        places = start + ops.arange(length, dtype="int32")
        # Not a slice: XLA takes its beginning, and what that comes from, for constants, and compiles for each batch.
        return ops.where(places < stop, ops.take(order, ops.minimum(places, self.count - 1)), self.count)

    def below(self, index):
        """Return the children of nodes; the node that is none has only missing ones."""
        return ops.where(index[:, None] < self.count, self._of(self.children, index), self.count)

    def inputs_of(self, index):
        """Return the features of nodes, any for the node that is none."""
        return self._of(self.inputs, index)

    def noise_of(self, index):
        """Return the noise of nodes, or None."""
        return None if self.noise is None else self._of(self.noise, index)

    def there(self, index, x):
        """Return `x` with zeros for the node that is none."""
        return ops.where(index[:, None] < self.count, x, ops.zeros_like(x))

    def _of(self, x, index):
        return ops.take(x, ops.minimum(index, self.count - 1), axis=0)


def _count(condition):
    return ops.sum(ops.cast(condition, "int32"))


def put_rows(x, index, rows):
    """Return `x` with these rows at these places; on torch `x` itself, changed."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_update(x, index[:, None], rows)
    if backend == "jax":
        return x.at[index].set(rows)
    x[index.long()] = rows
    return x


def add_rows(x, index, rows):
    """Return `x` with these rows added at these places; on torch `x` itself, changed."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_add(x, index[:, None], rows)
    if backend == "jax":
        return x.at[index].add(rows)
    return x.index_add_(0, index.long(), rows)
