"""Batches of trees: their order, their widths, and what is refused."""

import numpy as np
import pytest

from keras_kicks.datasets import TreeBatches, tree_tensors

# A chain of n + 1 nodes for each n, and a wide tree.
TREES = [1, [2], [[3]], [[[[[[[[4]]]]]]]], [5] * 20, [[6], [7, 8]], 9]
SIZES = [1, 2, 3, 9, 21, 6, 1]


def test_without_shuffling_trees_stay_in_their_order():
    targets = np.arange(len(TREES)) * 10
    batches = TreeBatches(TREES, targets, batch_size=3, shuffle=False)
    labels, topology = tree_tensors(TREES, nodes=32)
    seen = 0
    for index in range(len(batches)):
        (values, heights), y = batches[index]
        count = len(values)
        np.testing.assert_array_equal(y, targets[seen : seen + count])
        np.testing.assert_array_equal(values, labels[seen : seen + count, : values.shape[1]])
        np.testing.assert_array_equal(heights, topology[seen : seen + count, : values.shape[1]])
        seen += count
    assert seen == len(TREES)
    assert [batches[index][0][0].shape[1] for index in range(3)] == [8, 32, 8]


def test_without_targets_batches_have_inputs_alone():
    assert len(TreeBatches(TREES, batch_size=3)[0]) == 1


def test_shuffling_puts_trees_of_a_size_together_and_others_in_each_epoch():
    trees = TREES * 6
    batches = TreeBatches(trees, np.arange(len(trees)), batch_size=4, seed=1)
    epochs = []
    for _ in range(3):
        order = [batches[index][1].tolist() for index in range(len(batches))]
        assert sorted(member for members in order for member in members) == list(range(len(trees)))
        for members in order:
            widths = {max(8, 1 << (SIZES[member % len(SIZES)] - 1).bit_length()) for member in members}
            assert len(widths) == 1
        epochs.append(order)
        batches.on_epoch_end()
    assert epochs[0] != epochs[1]
    again = TreeBatches(trees, np.arange(len(trees)), batch_size=4, seed=1)
    assert [again[index][1].tolist() for index in range(len(again))] == epochs[0]


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_first_two_batches_show_keras_that_widths_differ(shuffle):
    trees = [1] * 20 + [[2] * 30]
    batches = TreeBatches(trees, batch_size=5, shuffle=shuffle, seed=0)
    assert batches[0][0][0].shape[1] != batches[1][0][0].shape[1]
    same = TreeBatches([1] * 20, batch_size=5)
    assert {same[index][0][0].shape[1] for index in range(4)} == {8}


def test_labels_have_one_dtype():
    batches = TreeBatches([1, [2.5] * 9], batch_size=1, shuffle=False)
    assert {batches[index][0][0].dtype.name for index in range(2)} == {"float64"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "TreeBatches: expected batch_size >= 1"),
        ({"batch_size": 1.5}, TypeError, "an integer for batch_size"),
        ({"seed": "a"}, TypeError, "an integer for seed"),
        ({"targets": [1, 2]}, ValueError, "as many targets as trees; got trees=7"),
        ({"targets": 3}, ValueError, "as many targets as trees"),
        ({"arity": 2}, ValueError, "no more children of a node than arity"),
        ({"trees": []}, ValueError, "at least one tree"),
        ({"trees": 3}, TypeError, "a sequence for trees"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TreeBatches(**{"trees": TREES, **arguments})
