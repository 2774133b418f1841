"""Recursive layers in models: masks, training on batches of trees, replicas."""

import keras
import numpy as np
import pytest
from layers.recurrent.recurrent_layers import array, normal

from keras_kicks.datasets import TreeBatches, list_ops, tree_topology
from keras_kicks.datasets.list_ops import list_ops_tree
from keras_kicks.layers import ChildSumTreeLSTM, NaryTreeLSTM, TreeRNN
from keras_kicks.ops.keras_mask import get_mask, set_mask


def test_the_mask_of_the_features_joins_that_of_the_padding():
    topology = tree_topology([[[], [], [0, 1]], [[]]])
    x = keras.ops.convert_to_tensor(normal(2, 3, 4))
    nodes, root = TreeRNN(2, 2, return_sequences=True), TreeRNN(2, 2)
    assert array(get_mask(nodes(x, topology))).tolist() == [[True, True, True], [True, False, False]]
    plain = array(nodes(x, topology))
    set_mask(x, keras.ops.convert_to_tensor([[True, False, True], [True, True, True]]))
    y = nodes(x, topology)
    assert array(get_mask(y)).tolist() == [[True, False, True], [True, False, False]]
    np.testing.assert_array_equal(array(y), plain)
    assert get_mask(root(x, topology)) is None


def model_of(layer, arity):
    tokens, topology = keras.Input((None,), dtype="int32"), keras.Input((None, 1 + arity), dtype="int32")
    root = layer(keras.layers.Embedding(16, 16)(tokens), topology)
    return keras.Model([tokens, topology], keras.layers.Dense(10)(root))


@pytest.mark.tensorflow
@pytest.mark.slow
def test_it_learns_from_batches_of_any_width():
    """The largest of nested lists."""
    expressions, _ = list_ops(600, seed=0, max_tokens=20)
    trees = [list_ops_tree(expression, binary=False) for expression in expressions]

    def largest(tree):
        return max(map(largest, tree[1:])) if isinstance(tree, tuple) else tree - 1

    values = [largest(tree) for tree in trees]
    batches = TreeBatches(trees, values, batch_size=25, inner_labels=True, seed=0)
    assert len({batches[index][0][0].shape[1] for index in range(len(batches))}) > 1
    model = model_of(ChildSumTreeLSTM(16), arity=5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, jit_compile=False)
    model.fit(batches, epochs=5, verbose=0)
    ordered = TreeBatches(trees, batch_size=100, inner_labels=True, shuffle=False)
    right = model.predict(ordered, verbose=0).argmax(axis=-1) == values
    assert np.bincount(values).max() / len(values) < 0.5
    assert right.mean() > 0.8


@pytest.mark.tensorflow
@pytest.mark.slow
def test_training_that_is_compiled_as_a_whole_is_the_same():
    expressions, values = list_ops(8, seed=0, max_tokens=9)
    batch = TreeBatches(list(map(list_ops_tree, expressions)), values, batch_size=8, shuffle=False)[0]
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(3)
        model = model_of(NaryTreeLSTM(4, 2), arity=2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss, jit_compile=jit_compile)
        model.fit(*batch, epochs=3, batch_size=8, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.slow
def test_replicas_drop_by_masks_of_their_own(strategy):
    import tensorflow as tf

    leaves = tf.constant(tree_topology([[[]]] * 64))
    with strategy.scope():
        layer = TreeRNN(8, 1, dropout=0.5, kernel_initializer="ones", seed=3)
        layer.build((None, 1, 1), leaves.shape)
    run = tf.function(lambda: strategy.run(lambda: layer(tf.ones((64, 1, 1)), leaves, training=True)))
    first, second = (array(value)[:, 0] > 0 for value in strategy.experimental_local_results(run()))
    assert 0.2 < (first != second).mean() < 0.8
