"""Recursive layers, against a recursion over each tree in NumPy."""

import keras
import numpy as np
import pytest
from layers.recurrent.recurrent_layers import array, expect_same, normal

from keras_kicks.datasets import list_ops, tree_tensors, tree_topology
from keras_kicks.datasets.list_ops import list_ops_tree
from keras_kicks.layers import ChildSumTreeLSTM, NaryTreeLSTM, TreeRNN

UNITS, FEATURES, ARITY = 4, 3, 5

LAYERS = {
    "TreeRNN": lambda **k: TreeRNN(UNITS, ARITY, bias_initializer="normal", **k),
    "ChildSumTreeLSTM": lambda **k: ChildSumTreeLSTM(UNITS, bias_initializer="normal", **k),
    "NaryTreeLSTM": lambda **k: NaryTreeLSTM(UNITS, ARITY, bias_initializer="normal", **k),
}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forest(count=12):
    """Trees of ListOps, from a few nodes to some dozens, and features for their nodes."""
    expressions, _ = list_ops(count, seed=0, max_tokens=40)
    trees = [list_ops_tree(expression, binary=False) for expression in expressions]
    labels, topology = tree_tensors(trees, inner_labels=True, arity=ARITY)
    return normal(*labels.shape, FEATURES), topology


def recursion(layer, x, topology, mask=None):
    """Return h and c of every node by calling a function on the node's children first; c is zero without gates.

    Each tree's h is multiplied by its mask, if there is one, before it goes into the parent's products.
    """
    mask = np.ones((len(x), UNITS)) if mask is None else mask
    kernel, recurrent, bias = (array(w).astype("float64") for w in layer.weights[:3])
    h_all, c_all = np.zeros((2, *x.shape[:2], UNITS))
    kind, u = type(layer).__name__, UNITS

    def visit(tree, node):
        below = [(k, *visit(tree, child)) for k, child in enumerate(topology[tree, node, 1:]) if child >= 0]
        children = [(k, h * mask[tree], c) for k, h, c in below]
        z = x[tree, node] @ kernel + bias
        if kind == "TreeRNN":
            h, c = np.tanh(z + sum(hk @ recurrent[k * u : (k + 1) * u] for k, hk, _ in children)), np.zeros(u)
        else:
            i, f, g, o = np.split(z, 4)
            if kind == "ChildSumTreeLSTM":
                ui, uf, ug, uo = np.split(recurrent, 4, axis=1)
                total = sum((hk for _, hk, _ in children), np.zeros(u))
                i, g, o = i + total @ ui, g + total @ ug, o + total @ uo
                kept = sum(sigmoid(f + hk @ uf) * ck for _, hk, ck in children)
            else:
                zero = np.zeros(recurrent.shape[1])
                parts = sum((hk @ recurrent[k * u : (k + 1) * u] for k, hk, _ in children), zero).reshape(-1, u)
                i, g, o = i + parts[0], g + parts[-2], o + parts[-1]
                kept = sum(sigmoid(f + parts[1 + k]) * ck for k, _, ck in children)
            c = sigmoid(i) * np.tanh(g) + kept
            h = sigmoid(o) * np.tanh(c)
        h_all[tree, node], c_all[tree, node] = h, c
        return h, c

    for tree, root in enumerate(topology[..., 0].argmax(axis=1)):
        visit(tree, root)
    return h_all, c_all


@pytest.mark.parametrize("name", LAYERS)
def test_values_are_those_of_a_recursion(name):
    x, topology = forest()
    layer = LAYERS[name](return_sequences=True, return_state=True)
    nodes, *states = layer(x, topology)
    h, c = recursion(layer, x, topology)
    roots = np.arange(len(x)), topology[..., 0].argmax(axis=1)
    expect_same([nodes, *states], [h, h[roots], c[roots]][: 1 + len(states)])
    assert len(states) == (1 if name == "TreeRNN" else 2)
    root = LAYERS[name]()
    root.build(x.shape, topology.shape)
    root.set_weights(layer.get_weights())
    expect_same(root(x, topology), h[roots])


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_difference_quotients_of_the_recursion(name):
    """In float64, along one direction in the features and all weights together."""
    import tensorflow as tf

    x, topology = forest(4)
    x = x.astype("float64")
    layer = LAYERS[name](return_sequences=True, dtype="float64")
    layer.build(x.shape, topology.shape)
    upstream = normal(*x.shape[:2], UNITS, seed=3) * (topology[..., :1] >= 0)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = tf.reduce_sum(layer(tensor, topology) * upstream)
    gradients = tape.gradient(value, [tensor, *(w.value for w in layer.trainable_weights)])
    directions = [normal(*g.shape, seed=seed).astype("float64") for seed, g in enumerate(gradients)]
    slope = sum(np.sum(g.numpy() * d) for g, d in zip(gradients, directions, strict=True))
    first, step, values = layer.get_weights(), 1e-6, []
    for sign in (1, -1):
        layer.set_weights([w + sign * step * d for w, d in zip(first, directions[1:], strict=True)])
        values.append(np.sum(recursion(layer, x + sign * step * directions[0], topology)[0] * upstream))
    np.testing.assert_allclose((values[0] - values[1]) / (2 * step), slope, rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", [(None, None), (12, None), (None, 64)])
def test_graphs_of_known_and_unknown_sizes(jit_compile, shape):
    import tensorflow as tf

    x, topology = forest()
    x, topology = (np.pad(t, ((0, 0), (0, 64 - t.shape[1]), (0, 0)), constant_values=-1) for t in (x, topology))
    layer = LAYERS["ChildSumTreeLSTM"](return_sequences=True)
    layer.build(x.shape, topology.shape)
    specs = tf.TensorSpec((*shape, FEATURES)), tf.TensorSpec((*shape, 1 + ARITY), tf.int32)

    @tf.function(input_signature=specs, jit_compile=jit_compile, autograph=False)
    def run(x, topology):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, topology)
        return y, tape.gradient(y, x)

    y, gradient = run(x, topology)
    expect_same(y, recursion(layer, x, topology)[0])
    assert np.abs(gradient.numpy()[topology[..., 0] < 0]).max() == 0
    assert np.abs(gradient.numpy()[topology[..., 0] >= 0]).max(axis=-1).min() > 0


@pytest.mark.slow
def test_padding_and_the_order_of_nodes_change_nothing():
    layer = LAYERS["NaryTreeLSTM"]()
    x, topology = normal(1, 5, FEATURES), tree_topology([[[], [], [0, 1], [], [2, 3]]], arity=ARITY)
    expected = array(layer(x, topology))
    padded = tree_topology([[[], [], [0, 1], [], [2, 3]]], arity=ARITY, nodes=9)
    np.testing.assert_allclose(
        array(layer(np.pad(x, ((0, 0), (0, 4), (0, 0)), constant_values=7), padded)), expected, rtol=1e-6
    )
    # The root first, and children behind their parents: what counts is the height.
    turned = tree_topology([[[2, 1], [], [4, 3], [], []]], arity=ARITY)
    np.testing.assert_allclose(array(layer(x[:, ::-1].copy(), turned)), expected, rtol=1e-6)


@pytest.mark.slow
def test_the_order_of_children_counts_where_they_have_places():
    x, topology = forest(6)
    turned = np.concatenate([topology[..., :1], topology[..., :0:-1]], axis=-1)
    for name, layer in ((name, make()) for name, make in LAYERS.items()):
        same = np.allclose(array(layer(x, topology)), array(layer(x, turned)), atol=1e-5)
        assert same == (name == "ChildSumTreeLSTM")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ChildSumTreeLSTM", "NaryTreeLSTM"])
def test_a_chain_is_the_lstm_of_keras(name):
    steps = 7
    x = normal(2, steps, FEATURES)
    chain = tree_topology([[[]] + [[node] for node in range(steps - 1)]] * 2)
    lstm = keras.layers.LSTM(UNITS, return_sequences=True)
    lstm.build(x.shape)
    layer = {"ChildSumTreeLSTM": ChildSumTreeLSTM(UNITS, return_sequences=True)}.get(
        name, NaryTreeLSTM(UNITS, 1, return_sequences=True)
    )
    layer.build(x.shape, chain.shape)
    layer.set_weights(lstm.get_weights())
    expect_same(layer(x, chain), lstm(x))


def test_a_tree_of_one_node_is_its_leaf():
    x, topology = normal(2, 1, FEATURES), tree_topology([[[]], [[]]], arity=ARITY)
    layer = LAYERS["TreeRNN"]()
    y = array(layer(x, topology))
    kernel, _, bias = map(array, layer.weights[:3])
    np.testing.assert_allclose(y, np.tanh(x[:, 0] @ kernel + bias), rtol=1e-5)


@pytest.mark.slow
def test_levels_may_be_wide_up_to_the_roots():
    """A hundred trees of one height: no level is narrower than the one below it."""
    x, topology = normal(100, 3, FEATURES), tree_topology([[[], [], [0, 1]]] * 100, arity=ARITY)
    layer = LAYERS["ChildSumTreeLSTM"](return_sequences=True)
    expect_same(layer(x, topology), recursion(layer, x, topology)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_dropped_states_are_those_of_a_recursion_with_a_mask(name):
    """The mask is what a network shows whose root is its child's state; the same seed draws the same."""
    x, topology = forest(8)
    pairs = tree_topology([[[], [0]]] * 8)
    shown = TreeRNN(UNITS, 1, activation=None, recurrent_dropout=0.5, seed=1)
    shown.build((8, 2, UNITS), pairs.shape)
    shown.set_weights([np.eye(UNITS), np.eye(UNITS), np.zeros(UNITS), *shown.get_weights()[3:]])
    mask = array(shown(np.stack([np.ones((8, UNITS)), np.zeros((8, UNITS))], axis=1), pairs, training=True))
    assert set(np.unique(mask)) == {0, 2}
    layer = LAYERS[name](recurrent_dropout=0.5, seed=1, return_sequences=True)
    expect_same(layer(x, topology, training=True), recursion(layer, x, topology, mask)[0])
    expect_same(layer(x, topology), recursion(layer, x, topology)[0])


def test_features_are_dropped_by_one_mask_for_a_tree():
    leaves = tree_topology([[[], [], [0, 1]]] * 200)
    layer = TreeRNN(1, 2, activation=None, dropout=0.25, seed=1, kernel_initializer="ones", return_sequences=True)
    layer.build((200, 3, 1), leaves.shape)
    layer.recurrent_kernel.assign(np.zeros((2, 1)))
    y = array(layer(np.ones((200, 3, 1), "float32"), leaves, training=True))
    assert (y == y[:, :1]).all()
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-3)
    # Four standard deviations of a share of 200.
    assert abs((y[:, 0] > 0).mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / 200)


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, 2.5])
def test_the_forget_gate_starts_as_it_is_told(forget_bias):
    for layer in (ChildSumTreeLSTM(3, forget_bias=forget_bias), NaryTreeLSTM(3, 2, forget_bias=forget_bias)):
        layer.build((1, 3, 2), (1, 3, 3))
        assert array(layer.bias).tolist() == [0] * 3 + [forget_bias] * 3 + [0] * 6


def test_nodes_that_are_not_there_are_masked():
    x, topology = forest(4)
    tokens, shape = keras.Input((None, FEATURES)), keras.Input((None, 1 + ARITY), dtype="int32")
    rows = LAYERS["TreeRNN"](return_sequences=True)(tokens, shape)
    model = keras.Model([tokens, shape], keras.layers.GlobalAveragePooling1D()(rows))
    layer = model.layers[-2]
    there = topology[..., 0] >= 0
    h, _ = recursion(layer, x, topology)
    expect_same(model([x, topology]), h.sum(axis=1) / there.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TreeRNN(0, 2), ValueError, "TreeRNN: expected units >= 1; got units=0"),
        (lambda: TreeRNN(3, 0), ValueError, "TreeRNN: expected arity >= 1"),
        (lambda: NaryTreeLSTM(3, 1.5), TypeError, "an integer for arity"),
        (lambda: ChildSumTreeLSTM(3, dropout=1.0), ValueError, "0 <= dropout < 1"),
        (lambda: ChildSumTreeLSTM(3, forget_bias="1"), TypeError, "a number for forget_bias"),
    ],
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_wrong_inputs_are_refused():
    x, topology = forest(2)
    with pytest.raises(ValueError, match=r"room for 3 children in the topology; .* Pass arity=3 to the function"):
        NaryTreeLSTM(4, 3)(x, topology)
    with pytest.raises(ValueError, match="as many nodes in the topology as in the inputs"):
        ChildSumTreeLSTM(4)(x[:, :-1], topology)
    with pytest.raises(ValueError, match=r"inputs of shape \(batch, nodes, features\)"):
        ChildSumTreeLSTM(4)(x[0], topology)
    with pytest.raises((TypeError, ValueError), match="an integer topology"):
        ChildSumTreeLSTM(4)(x, topology.astype("float32"))
