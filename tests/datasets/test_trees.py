"""Trees as tensors and back, and what is refused."""

import numpy as np
import pytest

from keras_kicks.datasets import TreeBatches, list_ops, list_ops_sequence, nested_trees, tree_tensors, tree_topology
from keras_kicks.datasets.list_ops import LIST_OPS_TOKENS


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


def test_children_stand_before_their_parents_and_everything_else_is_padding():
    trees, _ = list_ops(50, seed=1)
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


def test_batches_have_all_trees_once_and_no_more_padding_than_needed():
    trees, values = list_ops(70, seed=2)
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


def test_a_list_within_itself_is_refused():
    tree = [1]
    tree.append(tree)
    with pytest.raises(ValueError, match="no list within itself"):
        tree_tensors([tree])


def evaluated(tokens):
    """The value of an expression from its tokens, by a stack."""
    stack = []
    for token in (LIST_OPS_TOKENS[token] for token in tokens):
        if token != "]":
            stack.append(token if token[0] == "[" else int(token))
            continue
        values = []
        while not isinstance(stack[-1], str):
            values.append(stack.pop())
        operator = stack.pop()[1:]
        functions = {"MAX": max, "MIN": min, "SM": lambda v: sum(v) % 10, "MED": lambda v: int(np.median(v))}
        stack.append(functions[operator](values))
    (value,) = stack
    return value


def test_values_of_list_ops_are_those_of_their_tokens():
    trees, values = list_ops(500, seed=3)
    assert [evaluated(list_ops_sequence(tree)) for tree in trees] == values.tolist()
    assert len(set(trees)) == 500


def test_list_ops_are_drawn_as_published():
    """A quarter of the arguments are operators, all four alike, with two to five arguments."""
    trees, _ = list_ops(3000, seed=4)
    arguments, operators, counts = [], [], []

    def visit(tree):
        operators.append(tree[0])
        counts.append(len(tree) - 1)
        for part in tree[1:]:
            arguments.append(isinstance(part, tuple))
            if isinstance(part, tuple):
                visit(part)

    for tree in trees:
        visit(tree)
    # Short expressions are rarer than they would be, since none is drawn twice.
    assert 0.22 < np.mean(arguments) < 0.31
    assert set(counts) == {2, 3, 4, 5}
    _, shares = np.unique(operators, return_counts=True)
    assert np.abs(shares / len(operators) - 0.25).max() < 4 * np.sqrt(3 / 16 / len(operators)) + 0.01


def test_tests_are_not_among_what_is_trained_on():
    train, _ = list_ops(300, seed=5, max_tokens=20)
    test, _ = list_ops(300, seed=6, max_tokens=20, exclude=train)
    assert not set(train) & set(test)
    assert max(len(list_ops_sequence(tree)) for tree in train + test) <= 20
    assert list_ops(300, seed=5, max_tokens=20)[0] == train
