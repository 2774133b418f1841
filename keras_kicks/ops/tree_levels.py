"""Recursive networks over batches of trees: all nodes of one height at a time, wherever in the batch they are.

A node is computed from its features and the rows of its children, by a rule (`keras_kicks.ops.tree_rules`) that this
file knows nothing of. Nodes are sorted by their height; loops take them in pieces of one height and a fixed number of
rows, so that the work grows with the number of nodes, whatever the padding and the depth, XLA knows the shapes, and
the graph does not grow with the depth. Leaves, which wait for nobody, are taken in the largest pieces.

The gradient is written by hand but for the step: the loops run back over the pieces, differentiate the step of each
and hand the children their parts. Differentiating the loops themselves would touch all nodes in every step.
"""

import functools

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.gradients import gradients_of, with_gradient

# Rows of a piece of leaves, of a wide level and of a narrow one: products of few rows are slow, large pieces of narrow
# levels mostly empty. No level is wider than the one below it, so that pieces change their size once.
LEAVES, WIDE, NARROW = 256, 64, 16
# Batches of unknown width are filled up to one of these numbers of nodes, each of which is compiled once.
SIZES = [2**power for power in range(11, 31)]


def tree_states(rule, inputs, topology, weights, noise=None, every_node=False):
    """Run a rule from the leaves of trees to their roots.

    Args:
        rule: A `TreeRule`, hashable.
        inputs: Shape (batch, nodes, features).
        topology: int32, shape (batch, nodes, 1 + arity): of each node the height, 0 for leaves and -1 for padding,
            and the indices of its children, -1 where there is none.
        weights: Dict of the tensors that the rule uses.
        noise: What the states of a tree are multiplied with on their way to a parent, of shape (batch, units), or
            None. It gets no gradient.
        every_node: Whether to return the states of every node, and not those of the roots.

    Returns:
        Shape (batch, rule.shown), or (batch, nodes, rule.shown) with zeros for padding.
    """
    batch, nodes = ops.shape(inputs)[:2]
    flat, heights, children, roots = _flattened(inputs, topology)
    extras = ()
    if noise is not None:
        trees = ops.arange(ops.shape(flat)[0], dtype="int32") // nodes
        extras = (ops.take(noise, ops.minimum(trees, batch - 1), axis=0),)
    places = ops.arange(batch * nodes, dtype="int32") if every_node else roots
    names = tuple(sorted(weights))
    run_forward, run_backward = _loops(rule, names)

    def forward(arguments):
        rows, order = run_forward(heights, children, *arguments, *extras)
        return ops.take(rows, places, axis=0)[:, : rule.shown], (rows, order)

    def backward(arguments, memory, upstream):
        upstream = ops.pad(upstream, ((0, 0), (0, rule.width - rule.shown)))
        drows = put_rows(ops.zeros_like(memory[0]), places, upstream)
        return tuple(run_backward(drows, *memory, heights, children, *arguments, *extras))

    states = with_gradient(forward, backward, (flat, *(weights[name] for name in names)))
    return ops.reshape(states, (-1, nodes, rule.shown)) if every_node else states


def _flattened(inputs, topology):
    """Number the nodes of the whole batch.

    Returns:
        The features and heights by node; the children, where the number of nodes stands for a missing one; the roots.
    """
    batch, nodes = ops.shape(inputs)[:2]
    first = ops.arange(batch, dtype="int32") * nodes
    heights, children = topology[..., 0], topology[..., 1:]
    roots = ops.cast(ops.argmax(heights, axis=1), "int32") + first
    children = ops.where(children < 0, -1, children + first[:, None, None])
    inputs, children = (ops.reshape(x, (-1, x.shape[-1])) for x in (inputs, children))
    heights, size = ops.reshape(heights, (-1,)), batch * nodes
    if not isinstance(nodes, int):
        sizes = ops.convert_to_tensor(SIZES, "int32")
        size = sizes[ops.sum(ops.cast(sizes < batch * nodes, "int32"))]
        more = size - batch * nodes
        inputs = ops.pad(inputs, ((0, more), (0, 0)))
        heights = ops.pad(heights, ((0, more),), constant_values=-1)
        children = ops.pad(children, ((0, more), (0, 0)), constant_values=-1)
    return inputs, heights, ops.where(children < 0, size, children), roots


@functools.cache
def _loops(rule, names):
    """Return the loop over the pieces and the one back, compiled by themselves where that pays."""

    def known(*tensors):
        # For known widths, whatever the number of nodes.
        widths = tuple(tuple(x.shape)[1:] for x in tensors)
        return None if any(None in width for width in widths) else widths

    def forward(heights, children, *rest):
        return _forward(rule, names, _Nodes(heights, children, *_split(rest, 1 + len(names))))

    def backward(drows, rows, order, heights, children, *rest):
        nodes = _Nodes(heights, children, *_split(rest, 1 + len(names)))
        return _backward(rule, names, nodes, drows, rows, order)

    if keras.backend.backend() == "jax":
        import jax

        # JAX would compile the loops anew in each call that is not compiled as a whole.
        return jax.jit(forward), jax.jit(backward)
    return cluster(forward, key=known), cluster(backward, key=known)


def _split(values, count):
    return tuple(values[:count]), tuple(values[count:])


class _Nodes:
    """The nodes of a batch and what belongs to them."""

    def __init__(self, heights, children, arguments, extras):
        self.count = ops.shape(heights)[0]
        self.heights, self.children, self.extras = heights, children, extras
        self.inputs, *self.values = arguments
        self.first, self.first_inner = _count(heights < 0), _count(heights <= 0)

    def sorted(self):
        """Sort the nodes by height; behind them, room for a piece that ends beyond the last."""
        order = ops.cast(ops.argsort(self.heights), "int32")
        return ops.concatenate([order, ops.full((LEAVES,), self.count, "int32")], axis=0)

    def level(self, node):
        """Return where the nodes of this node's height begin and end in the sorted order."""
        # Loops ask beyond the last node too before they end, of which no answer matters.
        height = ops.take(self.heights, ops.clip(node, 0, self.count - 1))
        return _count(self.heights < height), _count(self.heights <= height)

    def is_narrow(self, node):
        """Whether no more than a small piece of nodes have this node's height."""
        begin, end = self.level(node)
        return end - begin <= NARROW

    def piece(self, order, start, stop, length):
        """Return `length` nodes from the sorted order, and which of them are before `stop`."""
        places = start + ops.arange(length, dtype="int32")
        inside = places < stop
        # Not a slice: XLA takes its beginning, and what that comes from, for constants, and compiles for each batch.
        return ops.where(inside, ops.take(order, places), self.count), inside[:, None]

    def of(self, x, index):
        """Take rows, any row for the node that is none."""
        return ops.take(x, ops.minimum(index, self.count - 1), axis=0)

    def below(self, index):
        """Return the children of nodes; the node that is none has only missing ones."""
        return ops.where(index[:, None] < self.count, self.of(self.children, index), self.count)

    def step(self, rule, names, index):
        """Return the rule's step for these nodes, as a function of what it has a gradient by."""
        extras = tuple(self.of(x, index) for x in self.extras)

        def step(x, *rest):
            values, rows = _split(rest, len(names))
            return rule.step(x, rows[0] if rows else None, dict(zip(names, values, strict=True)), *extras)

        return step


def _forward(rule, names, nodes):
    """Return the rows of all nodes and one more, which is zero, and the sorted order."""
    order = nodes.sorted()

    def piece(start, stop, length, rows, leaves=False):
        index, inside = nodes.piece(order, start, stop, length)
        below = () if leaves else (ops.take(rows, nodes.below(index), axis=0),)
        new = nodes.step(rule, names, index)(nodes.of(nodes.inputs, index), *nodes.values, *below)
        return stop, put_rows(rows, index, ops.where(inside, new, ops.zeros_like(new)))

    def leaves(start, rows):
        return piece(start, ops.minimum(start + LEAVES, nodes.first_inner), LEAVES, rows, leaves=True)

    def level(length):
        def inner(start, rows):
            return piece(start, ops.minimum(start + length, nodes.level(ops.take(order, start))[1]), length, rows)

        return inner

    def is_wide(start, _):
        return ops.logical_and(start < nodes.count, ops.logical_not(nodes.is_narrow(ops.take(order, start))))

    state = nodes.first, ops.zeros((nodes.count + 1, rule.width), nodes.inputs.dtype)
    state = ops.while_loop(lambda start, _: start < nodes.first_inner, leaves, state)
    state = ops.while_loop(is_wide, level(WIDE), state)
    _, rows = ops.while_loop(lambda start, _: start < nodes.count, level(NARROW), state)
    return rows, order


def _backward(rule, names, nodes, drows, rows, order):
    """Return the gradients by the inputs and the weights from those by the rows."""

    def piece(start, stop, length, drows, dinputs, totals, leaves=False):
        index, inside = nodes.piece(order, start, stop, length)
        children = nodes.below(index)
        below = () if leaves else (ops.take(rows, children, axis=0),)
        upstream = ops.take(drows, index, axis=0)
        dx, *gradients = gradients_of(
            nodes.step(rule, names, index),
            (nodes.of(nodes.inputs, index), *nodes.values, *below),
            ops.where(inside, upstream, ops.zeros_like(upstream)),
        )
        gradients, parts = _split(gradients, len(names))
        for part in parts:
            drows = add_rows(drows, ops.reshape(children, (-1,)), ops.reshape(part, (-1, rule.width)))
        totals = (total + ops.cast(d, total.dtype) for total, d in zip(totals, gradients, strict=True))
        return start, drows, put_rows(dinputs, index, dx), *totals

    def level(length):
        def inner(stop, drows, dinputs, *totals):
            start = ops.maximum(stop - length, nodes.level(ops.take(order, stop - 1))[0])
            return piece(start, stop, length, drows, dinputs, totals)

        return inner

    def leaves(stop, drows, dinputs, *totals):
        return piece(ops.maximum(stop - LEAVES, nodes.first), stop, LEAVES, drows, dinputs, totals, leaves=True)

    def is_narrow(stop, *_):
        return ops.logical_and(stop > nodes.first_inner, nodes.is_narrow(ops.take(order, stop - 1)))

    dinputs = ops.zeros((nodes.count + 1, nodes.inputs.shape[-1]), nodes.inputs.dtype)
    # Sums over many pieces: in float32 at least.
    totals = [ops.zeros(v.shape, keras.backend.result_type(v.dtype, "float32")) for v in nodes.values]
    state = (nodes.count, drows, dinputs, *totals)
    state = ops.while_loop(is_narrow, level(NARROW), state)
    state = ops.while_loop(lambda stop, *_: stop > nodes.first_inner, level(WIDE), state)
    _, _, dinputs, *totals = ops.while_loop(lambda stop, *_: stop > nodes.first, leaves, state)
    return dinputs[:-1], *(ops.cast(d, v.dtype) for d, v in zip(totals, nodes.values, strict=True))


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
