"""How much faster is a Tree-LSTM level by level than node by node?"""

import types

import numpy as np

from benchmarks.harness import SEED, Ratio, Result, race
from benchmarks.steps import expect_equal, labelled, products, tensorflow_step, torch_step
from keras_kicks.datasets import list_ops, tree_tensors
from keras_kicks.datasets.list_ops import list_ops_tree
from keras_kicks.layers import ChildSumTreeLSTM, NaryTreeLSTM

OURS, RECURSIVE, TORCH = "keras_kicks", "node by node, TensorFlow", "node by node, torch"
FLOOR = "its products, each of all nodes at once"


def run(smoke=False):
    """Time a step on 64 trees of ListOps as they are drawn, 128 features and units."""
    trees, width = (4, 8) if smoke else (64, 128)
    expressions, _ = list_ops(trees, seed=SEED, max_tokens=100)
    results = []

    def of_sum_and_child(nodes, inner):
        return (inner, width, 3 * width), (nodes, width, width)

    def of_places(arity):
        return lambda nodes, inner: [(inner, arity * width, (3 + arity) * width)]

    for binary, layer, step, recurrent in (
        (False, ChildSumTreeLSTM(width), _child_sum, of_sum_and_child),
        (False, NaryTreeLSTM(width, 5), _nary, of_places(5)),
        (True, NaryTreeLSTM(width, 2), _nary, of_places(2)),
    ):
        nested = [list_ops_tree(expression, binary) for expression in expressions]
        _, topology = tree_tensors(nested, inner_labels=not binary)
        heights = topology[..., 0]
        x = np.random.default_rng(SEED).normal(size=(*heights.shape, width)).astype("float32")
        nodes, inner = int((heights >= 0).sum()), int((heights > 0).sum())
        note = (
            f"{nodes} nodes, {inner} of them with children, up to height {heights.max()}; "
            f"padded to {heights.size}. Node by node, too, all features are one product."
        )
        layer.build(x.shape, topology.shape)
        by_node = {
            RECURSIVE: _tensorflow(step, layer.trainable_variables, x, topology),
            TORCH: _torch(step, layer.get_weights(), x, topology),
        }
        for jit in (False, True):
            ours = tensorflow_step(layer, layer.trainable_variables, [x, topology], jit)
            contestants = {OURS: ours, **by_node}
            expect_equal(contestants, *contestants)
            contestants[FLOOR] = products((nodes, width, 4 * width), *recurrent(nodes, inner))
            times = race(contestants, 2 if smoke else 8, warmup=1)
            ratios = [Ratio(OURS, RECURSIVE, 0.02), Ratio(OURS, TORCH), Ratio(OURS, FLOOR)]
            arity = topology.shape[-1] - 1
            title = f"{type(layer).__name__}({width}) on {trees} trees with up to {arity} children, {labelled(jit)}"
            results.append(Result(title, "ms", times, ratios, [note]))
    return results


def _tensorflow(step, weights, x, topology):
    """Return a run of one step that is no graph: it follows each tree's lists, as a recursion must."""
    import tensorflow as tf

    xp = types.SimpleNamespace(
        sigmoid=tf.sigmoid,
        tanh=tf.tanh,
        split=lambda x, parts, axis=-1: tf.split(x, parts, axis),
        concat=lambda tensors, axis=0: tf.concat(tensors, axis),
        rows=lambda x: tf.unstack(tf.reshape(x, (-1, 1, x.shape[-1]))),
    )
    run = tensorflow_step(lambda x: _roots(xp, step, x, weights, topology), weights, [x], jit_compile=False)

    def eagerly():
        tf.config.run_functions_eagerly(True)
        try:
            return run()
        finally:
            tf.config.run_functions_eagerly(False)

    return eagerly


def _torch(step, weights, x, topology):
    import torch

    xp = types.SimpleNamespace(
        sigmoid=torch.sigmoid,
        tanh=torch.tanh,
        split=lambda x, parts, axis=-1: torch.chunk(x, parts, axis),
        concat=lambda tensors, axis=0: torch.cat(tensors, axis),
        rows=lambda x: x.reshape(-1, 1, x.shape[-1]).unbind(),
    )
    weights = [torch.tensor(weight, requires_grad=True) for weight in weights]
    return torch_step(lambda x: _roots(xp, step, x, weights, topology), weights, [x])


def _roots(xp, step, x, weights, topology):
    """Return h of the roots: at each node `step`, of its part of the features' product and its children's states."""
    kernel, recurrent, bias = weights
    rows = xp.rows(x @ kernel + bias)
    matrices = step(xp, recurrent)

    def state(tree, node):
        children = [(place, state(tree, child)) for place, child in enumerate(topology[tree, node, 1:]) if child >= 0]
        return step(xp, matrices, rows[tree * topology.shape[1] + node], children)

    return xp.concat([state(tree, root)[0] for tree, root in enumerate(topology[..., 0].argmax(axis=1))])


def _child_sum(xp, matrices, z=None, children=()):
    """Return h and c of a node; without one, the matrices as they are needed."""
    if z is None:
        i, f, g, o = xp.split(matrices, 4)
        return xp.concat([i, g, o], -1), f
    i, f, g, o = xp.split(z, 4)
    kept = 0
    if children:
        of_sum, of_child = matrices
        ri, rg, ro = xp.split(sum(h for _, (h, _) in children) @ of_sum, 3)
        i, g, o = i + ri, g + rg, o + ro
        kept = sum(xp.sigmoid(f + h @ of_child) * c for _, (h, c) in children)
    c = xp.sigmoid(i) * xp.tanh(g) + kept
    return xp.sigmoid(o) * xp.tanh(c), c


def _nary(xp, matrices, z=None, children=()):
    """The same for a node with places for its children."""
    if z is None:
        rows, columns = matrices.shape  # N u and (3 + N) u.
        return xp.split(matrices, 3 * rows // (columns - rows), 0)
    i, f, g, o = xp.split(z, 4)
    kept = 0
    if children:
        ri, *rf, rg, ro = xp.split(sum(h @ matrices[place] for place, (h, _) in children), 3 + len(matrices))
        i, g, o = i + ri, g + rg, o + ro
        kept = sum(xp.sigmoid(f + rf[place]) * c for place, (_, c) in children)
    c = xp.sigmoid(i) * xp.tanh(g) + kept
    return xp.sigmoid(o) * xp.tanh(c), c
