"""Trees as tensors and back, and what is refused."""

import numpy as np
import pytest

from keras_kicks.datasets import TreeBatches, list_ops, nested_trees, tree_tensors, tree_topology
from keras_kicks.datasets.list_ops import list_ops_tree


def height(tree, inner_labels):
    """A recursion over nested lists: of a leaf 0, of a list one more than of its highest child."""
    if not isinstance(tree, (list, tuple)):
        return 0
    return 1 + max(height(part, inner_labels) for part in tree[inner_labels:] if part is not None)


@pytest.mark.parametrize("inner_labels", [False, True])
def test_nested_lists_come_back(inner_labels):
    trees = [[1, [2, 3], [[4], 5]], [6, 7], [[[[8]]]]]
    if inner_labels:
        trees = [[10, 1, [11, 2, 3]], [12, [13, 4]], 5]
    labels, topology = tree_tensors(trees, inner_labels=inner_labels)
    assert nested_trees(labels, topology, inner_labels=inner_labels) == trees
    assert topology[..., 0].max(axis=1).tolist() == [height(tree, inner_labels) for tree in trees]


def some_trees(count, seed):
    """Trees of a few nodes up to hundreds, with labels from 1."""
    return [list_ops_tree(expression, binary=False) for expression in list_ops(count, seed=seed)[0]]


def test_children_stand_before_their_parents_and_everything_else_is_padding():
    trees = some_trees(50, seed=1)
    labels, topology = tree_tensors(trees, inner_labels=True)
    for values, rows in zip(labels, topology, strict=True):
        there = rows[:, 0] >= 0
        assert (rows[~there] == -1).all()
        assert (values[~there] == 0).all()
        for node in np.flatnonzero(there):
            children = rows[node, 1:][rows[node, 1:] >= 0]
            assert (children < node).all()
            assert rows[node, 0] == (1 + rows[children, 0].max() if len(children) else 0)


def test_a_missing_child_keeps_its_place():
    labels, topology = tree_tensors([[None, 1], [2, None, 3]])
    assert topology.shape == (2, 3, 4)
    assert (topology[0, 1, 1:] == [-1, 0, -1]).all()
    assert nested_trees(labels, topology) == [[None, 1], [2, None, 3]]


def test_trees_deeper_than_the_stack():
    tree = 1
    for _ in range(3000):
        tree = [tree]
    _, topology = tree_tensors([tree])
    assert topology[0, :, 0].max() == 3000


def test_children_and_parents_tell_the_same():
    parents = [[2, 2, 4, 4, -1], [1, -1]]
    children = [[[], [], [0, 1], [], [2, 3]], [[], [0]]]
    np.testing.assert_array_equal(tree_topology(parents=parents), tree_topology(children))
    array = np.full((2, 5, 2), -1)
    array[0, 2], array[0, 4], array[1, 1, 0] = [0, 1], [2, 3], 0
    np.testing.assert_array_equal(tree_topology(array), tree_topology(children))


def test_labels_may_be_strings_and_vectors():
    labels, _ = tree_tensors([["a", "bc"], "d"])
    assert labels.tolist() == [["a", "bc", ""], ["d", "", ""]]
    vectors, _ = tree_tensors([[np.ones(2), np.full(2, 3.0)]])
    assert vectors.tolist() == [[[1, 1], [3, 3], [0, 0]]]


def test_a_list_that_is_in_two_places_is_copied():
    pair = [1, 2]
    labels, topology = tree_tensors([[pair, pair]])
    assert nested_trees(labels, topology) == [[[1, 2], [1, 2]]]


def test_batches_have_all_trees_once_and_no_more_padding_than_needed():
    trees, values = some_trees(70, seed=2), np.arange(70)
    batches = TreeBatches(trees, values, batch_size=16, inner_labels=True, seed=0)
    seen = []
    for index in range(len(batches)):
        (labels, topology), targets = batches[index]
        assert len(labels) <= 16
        assert labels.shape[1] & (labels.shape[1] - 1) == 0
        found = nested_trees(labels, topology, inner_labels=True)
        found = [tuple_of(tree) for tree in found]
        assert [values[trees.index(tree)] for tree in found] == targets.tolist()
        seen += found
    assert sorted(map(str, seen)) == sorted(map(str, trees))


def tuple_of(tree):
    return tuple(map(tuple_of, tree)) if isinstance(tree, list) else tree


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tree_topology([[[1], [0]]]), "trees without cycles"),
        (lambda: tree_topology([[[], [0], [2]]]), "one root in every tree|trees without cycles"),
        (lambda: tree_topology([[[], [0], [0]]]), "one parent for every node"),
        (lambda: tree_topology([[[], []]]), "one root in every tree; got tree=0, roots=2. Join them under one"),
        (lambda: tree_topology([[[], [5]]]), "indices of nodes of the tree"),
        (lambda: tree_topology([[[], [-2]]]), "indices of nodes of the tree"),
        # A root, and a circle beside it.
        (lambda: tree_topology([[[], [0], [3], [2]]]), "trees without cycles; got tree=0"),
        # A node that is in no tree is padding at the end alone.
        (lambda: tree_topology(np.array([[[-1], [-1], [1]]])), "one root in every tree; got tree=0, roots=2"),
        (lambda: tree_topology(np.zeros((2, 3), int)), r"an array of shape \(trees, nodes, arity\)"),
        (lambda: tree_topology(parents=[[3, -1]]), "indices of nodes of the tree"),
        (lambda: tree_topology(parents=[[-1, -1]]), "one root in every tree"),
        (lambda: tree_topology([[[]]], parents=[[-1]]), "either children or parents"),
        (lambda: tree_tensors([[1, "a"]]), "labels of one kind and shape"),
        (lambda: tree_tensors([[1, np.zeros(2)]]), "labels of one kind and shape"),
        (lambda: nested_trees(np.zeros((1, 2)), np.zeros((1, 3, 2), int)), "labels and topology of the same trees"),
        (lambda: tree_topology([[[], [], [0, 1]]], arity=1), "no more children of a node than arity"),
        (lambda: tree_topology([[[], [], [0, 1]]], nodes=2), "no more nodes of a tree than nodes"),
        (lambda: tree_topology([[]]), "at least one node in every tree"),
        (lambda: tree_topology([]), "at least one tree"),
        (lambda: tree_topology(), "either children or parents"),
        (lambda: tree_topology(parents=[[1, 0]]), "trees without cycles"),
        (lambda: tree_tensors([[1, []]]), "at least one child in every list"),
        (lambda: tree_tensors([]), "at least one tree"),
        (lambda: TreeBatches([1, 2], [0]), "as many targets as trees"),
        (lambda: TreeBatches([1, 2], [0, 1], batch_size=0), "batch_size >= 1"),
    ],
)
def test_bad_trees_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tree_topology([[[], [0.0]]]), "tree_topology: expected integers for indices"),
        (lambda: tree_topology(parents=[[1.0, -1.0]]), "tree_topology: expected integers for indices"),
        (lambda: tree_topology({0: 1}), "tree_topology: expected a sequence for children"),
        (lambda: tree_tensors(3), "tree_tensors: expected a sequence for trees"),
        (lambda: tree_tensors([1], arity=2.0), "tree_tensors: expected an integer for arity"),
    ],
)
def test_what_is_no_tree_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_a_list_within_itself_is_refused():
    tree = [1]
    tree.append(tree)
    with pytest.raises(ValueError, match="no list within itself"):
        tree_tensors([tree])
