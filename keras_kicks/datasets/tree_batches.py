"""Batches of trees of any size, padded no more than they need."""

import keras
import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_seed
from keras_kicks.datasets.trees import flat_trees, padded, padded_topology


class TreeBatches(keras.utils.PyDataset):
    """Nested lists as a data set for `fit`, `evaluate` and `predict`: ((labels, topology), target) batches.

    A batch is padded to the next power of two of nodes, so that few shapes are ever compiled. Sizes of trees may have
    a long tail, and one array of all of them would be mostly padding.

    Args:
        trees: Sequence of nested lists or tuples, as in `keras_kicks.datasets.tree_tensors`.
        targets: Array with an entry for each tree, or None.
        batch_size: Trees in a batch, >= 1; the last batch of each width may be smaller.
        inner_labels: Whether the first entry of a list is a label.
        arity: Places for children; by default as many as any node has.
        shuffle: Whether to put trees of about one size into a batch, others in each epoch, in random order. If not, the
            trees stay in their order, as `predict` wants it.
        seed: Seed of `numpy.random.default_rng`, or None.
        **kwargs: Arguments of `keras.utils.PyDataset`, such as `workers`.

    Raises:
        TypeError: `batch_size` or `arity` is no integer; `seed` is neither None nor an integer.
        ValueError: expected batch_size >= 1; as many targets as trees; trees as `tree_tensors` expects them.

    Example:
        >>> batches = TreeBatches([[1, [2, 3]], 4, [5, 6]], [0, 1, 2], batch_size=2, shuffle=False)
        >>> (labels, topology), y = batches[0]
        >>> labels.tolist(), y.tolist()
        ([[1, 2, 3, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]], [0, 1])
    """

    def __init__(
        self, trees, targets=None, batch_size=32, inner_labels=False, arity=None, shuffle=True, seed=None, **kwargs
    ):
        owner = type(self).__name__
        expect_integer(owner, batch_size=batch_size)
        expect(batch_size >= 1, owner, "batch_size >= 1", batch_size=batch_size)
        expect_seed(owner, seed)
        super().__init__(**kwargs)
        labels, children = flat_trees(owner, trees, inner_labels)
        count = len(labels)
        self.targets = None if targets is None else np.asarray(targets)
        same = targets is None or self.targets.shape[:1] == (count,)
        expect(same, owner, "as many targets as trees", trees=count, targets_shape=np.shape(targets))
        if arity is None:
            arity = max(1, *(len(node) for tree in children for node in tree))
        self.batch_size, self.shuffle = int(batch_size), bool(shuffle)
        self._widths = np.array([_width(len(tree)) for tree in labels])
        self._labels, self._topologies = [None] * count, [None] * count
        for width in np.unique(self._widths):
            (members,) = np.nonzero(self._widths == width)
            values = padded(owner, [labels[tree] for tree in members], width)
            topology = padded_topology(owner, [children[tree] for tree in members], arity, int(width))
            for place, tree in enumerate(members):
                self._labels[tree], self._topologies[tree] = values[place], topology[place]
        self._dtype = np.result_type(*{values.dtype for values in self._labels})
        self._random = np.random.default_rng(seed)
        self._batches = []
        self.on_epoch_end()

    def __len__(self):
        """Return the number of batches."""
        return len(self._batches)

    def __getitem__(self, index):
        """Return a batch."""
        trees, width = self._batches[index]
        first = self._labels[trees[0]]
        labels = np.zeros((len(trees), width, *first.shape[1:]), self._dtype)
        topology = np.full((len(trees), width, self._topologies[trees[0]].shape[1]), -1, "int32")
        for row, tree in enumerate(trees):
            labels[row, : self._widths[tree]] = self._labels[tree]
            topology[row, : self._widths[tree]] = self._topologies[tree]
        inputs = (labels, topology)
        return (inputs,) if self.targets is None else (inputs, self.targets[trees])

    def on_epoch_end(self):
        """Put the trees into batches for the next epoch."""
        order, groups = np.arange(len(self._widths)), []
        if self.shuffle:
            order = self._random.permutation(order)
            groups = [order[self._widths[order] == width] for width in np.unique(self._widths)]
        batches = []
        for group in groups or [order]:
            batches += [group[start : start + self.batch_size] for start in range(0, len(group), self.batch_size)]
        if self.shuffle:
            batches = [batches[place] for place in self._random.permutation(len(batches))]
        widths = [int(self._widths[trees].max()) for trees in batches]
        # Keras takes the lengths in which the first two batches agree for those of all.
        if len(set(widths)) > 1 and widths[0] == widths[1]:
            widths[1] *= 2
        self._batches = list(zip(batches, widths, strict=True))


def _width(nodes):
    return max(8, 1 << (nodes - 1).bit_length())
