"""Training data that carries the counts of a bootstrap along with the inputs."""

import itertools

import keras
import numpy as np

from keras_kicks._errors import expect

_INPUTS, _COUNTS = "keras_kicks_inputs", "keras_kicks_counts"


def split(x):
    """Return the inputs and the counts, None where `x` does not carry them."""
    if isinstance(x, dict) and set(x) == {_INPUTS, _COUNTS}:
        return x[_INPUTS], x[_COUNTS]
    return x, None


def join(x, counts):
    """Return inputs that carry counts."""
    return {_INPUTS: x, _COUNTS: counts}


def are_arrays(x):
    """Return whether `x`, as `fit` takes it, is nested arrays, whose samples have places."""
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(
        hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") and len(leaf.shape) > 0 for leaf in leaves
    )


def sample_count(owner, x):
    """Return how many samples nested arrays have.

    Raises:
        ValueError: expected as many samples in each input.
    """
    counts = sorted({int(leaf.shape[0]) for leaf in keras.tree.flatten(x)})
    expect(len(counts) == 1 and counts[0] > 0, owner, "as many samples in each input, one or more", samples=counts)
    return counts[0]


def input_shapes(x):
    """Return the shapes of the inputs in data as `fit` takes them, and these data, nothing of them used up.

    Args:
        x: Arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator.

    Returns:
        Shapes with None for the samples, or None for other data; and data in place of `x`.
    """
    if are_arrays(x):
        inputs = x
    elif hasattr(x, "element_spec"):
        inputs = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
    elif isinstance(x, keras.utils.PyDataset):
        inputs = keras.utils.unpack_x_y_sample_weight(x[0])[0]
    elif hasattr(x, "__next__"):
        first, rest = next(x, None), x
        if first is None:
            return None, x
        inputs = keras.utils.unpack_x_y_sample_weight(first)[0]
        x = (batch for batch in itertools.chain([first], rest))  # Keras takes generators alone.
    else:
        return None, x
    return keras.tree.map_structure(lambda part: (None, *part.shape[1:]), inputs), x


def count_batches(owner, x, members, count):
    """Return batches of data, as `fit` takes them, whose inputs carry counts.

    Args:
        owner: Name of the class that asks.
        x: A batched `tf.data.Dataset` of dense tensors, a `keras.utils.PyDataset` or a generator.
        members: Number of columns of the counts.
        count: Function from a tuple of the inputs and the labels of a batch, as arrays, to their counts.

    Raises:
        TypeError: expected arrays, a tf.data.Dataset of dense tensors, a keras.utils.PyDataset or a generator.
    """

    def counted(batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        arrays = keras.tree.map_structure(_array, (x, y) if y is not None else (x,))
        return keras.utils.pack_x_y_sample_weight(join(x, count(arrays)), y, sample_weight)

    if isinstance(x, keras.utils.PyDataset):
        return _CountedPyDataset(x, counted)
    if hasattr(x, "element_spec"):
        return _count_dataset(owner, x, members, count)
    kinds = "arrays, a tf.data.Dataset of dense tensors, a keras.utils.PyDataset or a generator"
    is_generator = hasattr(x, "__next__")
    expect(is_generator, owner, kinds, "Or set bootstrap=False.", TypeError, x=type(x).__name__)
    return (counted(batch) for batch in x)


def _array(leaf):
    return np.asarray(leaf) if isinstance(leaf, np.ndarray) else keras.ops.convert_to_numpy(leaf)


def _count_dataset(owner, dataset, members, count):
    import tensorflow as tf

    kinds = "a tf.data.Dataset of dense tensors"
    leaves = keras.tree.flatten(dataset.element_spec)
    dense = isinstance(dataset, tf.data.Dataset) and all(isinstance(leaf, tf.TensorSpec) for leaf in leaves)
    expect(dense, owner, kinds, "Or set bootstrap=False.", TypeError, x=type(dataset).__name__)

    def attach(*batch):
        # `map` unpacks a tuple, also one of inputs alone.
        batch = batch if isinstance(dataset.element_spec, tuple) else batch[0]
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        leaves = keras.tree.flatten((x, y) if y is not None else (x,))
        counts = tf.numpy_function(lambda *arrays: count(list(arrays)), leaves, tf.int32, stateful=False)
        counts.set_shape((leaves[0].shape[0], members))
        return keras.utils.pack_x_y_sample_weight(join(x, counts), y, sample_weight)

    return dataset.map(attach, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


class _CountedPyDataset(keras.utils.PyDataset):
    """A PyDataset whose inputs carry counts."""

    def __init__(self, dataset, counted):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._counted = dataset, counted

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        return self._counted(self._dataset[index])

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
