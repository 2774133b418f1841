"""Training data that carries the teachers' outputs along with the inputs."""

import keras
import numpy as np

from keras_kicks._errors import expect
from keras_kicks.models.cache_keys import sample_keys

_INPUTS, _OUTPUTS = "keras_kicks_inputs", "keras_kicks_teachers"


def split(x):
    """Return the inputs and the flat list of the teachers' outputs, None where `x` does not carry them."""
    if isinstance(x, dict) and set(x) == {_INPUTS, _OUTPUTS}:
        return x[_INPUTS], [x[_OUTPUTS][key] for key in sorted(x[_OUTPUTS])]
    return x, None


def expect_visitable(x):
    """Raise unless the samples of `x`, as `fit` takes it, end and can be visited again.

    Raises:
        TypeError: expected arrays, a tf.data.Dataset of dense tensors or a keras.utils.PyDataset.
        ValueError: expected data of known, finite length.
    """
    owner, without = "Distiller.fit", "Train without teacher_cache."
    if isinstance(x, keras.utils.PyDataset):
        remedy = "Implement `__len__`, or train without teacher_cache."
        known = _length(x) is not None
        expect(known, owner, "a PyDataset of known length with teacher_cache", remedy, num_batches=None)
        return
    kinds = "arrays, a tf.data.Dataset of dense tensors or a keras.utils.PyDataset with teacher_cache"
    if not _is_tf_dataset(x):
        leaves = keras.tree.flatten(x)
        arrays = bool(leaves) and all(_is_array(leaf) for leaf in leaves)
        expect(arrays, owner, kinds, without, TypeError, x=type(x).__name__)
        counts = [len(leaf) for leaf in leaves]
        expect(len(set(counts)) == 1, owner, "as many samples in each input", samples=counts)
        return
    import tensorflow as tf

    spec = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
    dense = all(isinstance(leaf, tf.TensorSpec) for leaf in keras.tree.flatten(spec))
    expect(dense, owner, kinds, without, TypeError, inputs=spec)
    cardinality = int(x.cardinality())
    remedy = "Use Dataset.take before Dataset.repeat, or train without teacher_cache."
    infinite = cardinality == tf.data.INFINITE_CARDINALITY
    expect(not infinite, owner, "a finite dataset with teacher_cache", remedy, cardinality="infinite")
    remedy = "Apply tf.data.experimental.assert_cardinality, or train without teacher_cache."
    known = cardinality != tf.data.UNKNOWN_CARDINALITY
    expect(known, owner, "a dataset of known length with teacher_cache", remedy, cardinality="unknown")


def teach(x, cache, batch_size=None):
    """Return `x`, as `fit` takes it, with the teachers' outputs from a cache, which is filled first.

    Args:
        x: Arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
        cache: `TeacherCache`.
        batch_size: Samples to run at a time, for arrays; 32 by default as in `fit`.
    """
    if isinstance(x, keras.utils.PyDataset):
        cache.fill(keras.utils.unpack_x_y_sample_weight(x[i])[0] for i in range(_length(x)))
        return _TaughtPyDataset(x, cache)
    if _is_tf_dataset(x):
        return _teach_tf_dataset(x, cache)
    arrays = keras.tree.map_structure(np.asarray, x)
    count, batch_size = len(keras.tree.flatten(arrays)[0]), batch_size or 32
    keys = cache.fill(
        keras.tree.map_structure(lambda leaf, i=i: leaf[i : i + batch_size], arrays)
        for i in range(0, count, batch_size)
    )
    return _join(x, cache.take(keys))


def _join(x, outputs):
    return {_INPUTS: x, _OUTPUTS: {f"{i:04d}": output for i, output in enumerate(outputs)}}


def _length(dataset):
    """Return the number of batches of a PyDataset, or None."""
    try:
        return dataset.num_batches
    except NotImplementedError:
        return None


def _is_tf_dataset(x):
    if not hasattr(x, "element_spec"):
        return False
    import tensorflow as tf

    # Iterators and distributed datasets have an element_spec, too.
    return isinstance(x, tf.data.Dataset)


def _is_array(leaf):
    # A scipy matrix is an array of no dimensions to NumPy.
    return hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") and np.ndim(np.asarray(leaf)) > 0


def _teach_tf_dataset(dataset, cache):
    import tensorflow as tf

    inputs = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in dataset)
    cache.fill(keras.tree.map_structure(lambda leaf: leaf.numpy(), x) for x in inputs)
    sample = cache.sample()
    dtypes = [leaf.dtype for leaf in sample]

    def take(*leaves):
        return cache.take(sample_keys(leaves))

    def attach(*batch):
        # `map` unpacks a tuple, also one of inputs alone.
        batch = batch if isinstance(dataset.element_spec, tuple) else batch[0]
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        leaves = keras.tree.flatten(x)
        outputs = tf.numpy_function(take, leaves, dtypes, stateful=False)
        for output, leaf in zip(outputs, sample, strict=True):
            output.set_shape((leaves[0].shape[0], *leaf.shape[1:]))
        return keras.utils.pack_x_y_sample_weight(_join(x, outputs), y, sample_weight)

    return dataset.map(attach, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


class _TaughtPyDataset(keras.utils.PyDataset):
    """A PyDataset whose inputs carry the teachers' outputs."""

    def __init__(self, dataset, cache):
        # Worker processes would each hold a copy of the cache; threads share it.
        super().__init__(dataset.workers, use_multiprocessing=False, max_queue_size=dataset.max_queue_size)
        self._dataset, self._cache = dataset, cache

    def __len__(self):
        return _length(self._dataset)

    def __getitem__(self, index):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self._dataset[index])
        return keras.utils.pack_x_y_sample_weight(_join(x, self._cache.take(sample_keys(x))), y, sample_weight)

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
