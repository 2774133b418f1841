"""Recursive networks over batches of trees: all nodes of one height at a time, wherever in the batch they are.

A node is computed from its features and the rows of its children, by a rule (`keras_kicks.ops.tree_rules`) in the
loops of `keras_kicks.ops.tree_loops`, of which this file knows nothing.
"""

import functools

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.gradients import with_gradient
from keras_kicks.ops.tree_loops import tree_backward, tree_forward
from keras_kicks.ops.tree_nodes import TreeNodes, put_rows

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
    run_forward, run_backward = _loops(rule, names, bool(extras))

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
def _loops(rule, names, noisy):
    """Return the loop over the pieces and the one back, compiled by themselves where that pays."""

    def nodes_of(heights, children, inputs, *rest):
        *values, noise = rest if noisy else (*rest, None)
        return TreeNodes(heights, children, inputs, noise), dict(zip(names, values, strict=True))

    def forward(*arguments):
        return tree_forward(rule, *nodes_of(*arguments))

    def backward(drows, rows, order, *arguments):
        dinputs, dweights = tree_backward(rule, *nodes_of(*arguments), drows, rows, order)
        return dinputs, *(dweights[name] for name in names)

    if keras.backend.backend() == "jax":
        import jax

        # JAX would compile the loops anew in each call that is not compiled as a whole.
        return jax.jit(forward), jax.jit(backward)
    return cluster(forward, key=_widths), cluster(backward, key=_widths)


def _widths(*tensors):
    """Compile for known widths, whatever the number of nodes."""
    widths = tuple(tuple(x.shape)[1:] for x in tensors)
    return None if any(None in width for width in widths) else widths
