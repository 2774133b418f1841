"""The loops over the levels of trees: pieces of every size, each way to run them, and what is compiled how often."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_kicks.datasets import list_ops, tree_tensors, tree_topology
from keras_kicks.datasets.list_ops import list_ops_tree
from keras_kicks.layers import ChildSumTreeLSTM, NaryTreeLSTM, TreeRNN
from keras_kicks.ops import tree_levels, tree_loops

LAYERS = {
    "TreeRNN": lambda: TreeRNN(4, 5, return_sequences=True),
    "ChildSumTreeLSTM": lambda: ChildSumTreeLSTM(4, return_sequences=True),
    "NaryTreeLSTM": lambda: NaryTreeLSTM(4, 5),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def forest(count, seed=0):
    trees = [list_ops_tree(expression, binary=False) for expression in list_ops(count, seed=seed, max_tokens=40)[0]]
    labels, topology = tree_tensors(trees, inner_labels=True, arity=5, nodes=40)
    return normal(*labels.shape, 3, seed=seed), topology


@pytest.fixture
def _small_pieces(monkeypatch):
    """Pieces that no level fits into."""
    tree_levels._loops.cache_clear()
    for name, rows in (("BLOCK", 7), ("WIDE", 3), ("NARROW", 2)):
        monkeypatch.setattr(tree_loops, name, rows)
    yield
    tree_levels._loops.cache_clear()


def step(layer, mode):
    """Return a function that returns the output, and the gradients of a sum of it by input and weights."""
    import tensorflow as tf

    def run(x, topology):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, topology)
            value = tf.reduce_sum(y * tf.constant(normal(*y.shape, seed=1)))
        return y, tape.gradient(value, [x, *(w.value for w in layer.trainable_weights)])

    return run if mode == "eager" else tf.function(run, jit_compile=mode == "xla", autograph=False)


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_pieces_of_any_size_give_the_same(name, request):
    """Those of the usual size, in which each level of these trees is one, are compared with a recursion elsewhere."""
    import tensorflow as tf

    x, topology = forest(12)
    layer = LAYERS[name]()
    layer.build(x.shape, topology.shape)
    expected = keras.tree.flatten(step(layer, "eager")(tf.constant(x), topology))
    request.getfixturevalue("_small_pieces")
    for mode in ("eager", "graph", "xla"):
        results = keras.tree.flatten(step(layer, mode)(tf.constant(x), topology))
        for got, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.tensorflow
def test_one_graph_serves_trees_of_every_depth():
    import tensorflow as tf

    layer = LAYERS["NaryTreeLSTM"]()
    layer.build((None, None, 3), (None, None, 6))
    run = tf.function(
        layer,
        autograph=False,
        input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None, 6), tf.int32)],
    )
    for depth in (1, 30):
        chain = tree_topology([[[]] + [[node] for node in range(depth)]], arity=5)
        x = normal(1, depth + 1, 3)
        np.testing.assert_allclose(run(x, chain), layer(x, chain), rtol=1e-5, atol=1e-6)
    assert run.experimental_get_tracing_count() == 1


COMPILED = """
import pathlib, sys
import numpy as np, tensorflow as tf
from keras_kicks.datasets import list_ops, tree_tensors
from keras_kicks.datasets.list_ops import list_ops_tree
from keras_kicks.layers import ChildSumTreeLSTM

layer = ChildSumTreeLSTM(4)
layer.build((None, None, 3), (None, None, 6))

specs = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None, 6), tf.int32)]

@tf.function(input_signature=specs, autograph=False)
def run(x, topology):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(x, topology))
    return tape.gradient(value, [w.value for w in layer.trainable_weights])

for seed, (trees, nodes) in enumerate([(8, 40), (8, 40), (9, 33), (3, 60)]):
    expressions, _ = list_ops(trees, seed=seed, max_tokens=40)
    nested = [list_ops_tree(expression, binary=False) for expression in expressions]
    _, topology = tree_tensors(nested, inner_labels=True, arity=5, nodes=nodes)
    run(np.ones((trees, nodes, 3), "float32"), topology)
    print(len({file.name.split(".")[0] for file in pathlib.Path(sys.argv[1]).glob("module_*")}))
"""


@pytest.mark.tensorflow
@pytest.mark.slow
def test_other_trees_and_other_widths_are_not_compiled_anew(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={tmp_path}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", COMPILED, str(tmp_path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    first, *later = map(int, run.stdout.split())
    assert first >= 2, "nothing was compiled"
    assert later == [first] * 3


def test_a_tree_without_nodes_is_zero():
    x, topology = normal(2, 3, 3), tree_topology([[[], [], [0, 1]]] * 2, arity=5)
    topology[1] = -1
    for make in LAYERS.values():
        y = keras.ops.convert_to_numpy(make()(x, topology))
        assert np.abs(y[0]).max() > 0
        assert (y[1] == 0).all()
