"""Training data that carries the teachers' outputs along with the inputs."""

import keras
import numpy as np

from keras_kicks._errors import expect

_INPUTS, _OUTPUTS = "keras_kicks_inputs", "keras_kicks_teachers"


def split(x):
    """Return the inputs and the flat list of the teachers' outputs, None where `x` does not carry them."""
    if isinstance(x, dict) and set(x) == {_INPUTS, _OUTPUTS}:
        return x[_INPUTS], [x[_OUTPUTS][key] for key in sorted(x[_OUTPUTS])]
    return x, None


def teach(x, cache, batch_size=None):
    """Return `x`, as `fit` takes it, with the teachers' outputs from a cache, which is filled first.

    Args:
        x: Arrays, a batched `tf.data.Dataset` or a `keras.utils.PyDataset`.
        cache: `TeacherCache`.
        batch_size: Samples to run at a time, for arrays; 32 by default as in `fit`.

    Raises:
        TypeError: The samples of `x` cannot be visited again: a generator, for one.
        ValueError: expected a finite dataset.
    """
    if isinstance(x, keras.utils.PyDataset):
        return _teach_py_dataset(x, cache)
    if hasattr(x, "element_spec"):
        return _teach_tf_dataset(x, cache)
    leaves = keras.tree.flatten(x)
    arrays = all(hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") for leaf in leaves) and leaves
    rule = "arrays, a tf.data.Dataset or a keras.utils.PyDataset with teacher_cache"
    expect(arrays, "Distiller.fit", rule, "Train without teacher_cache.", TypeError, x=type(x).__name__)
    arrays = keras.tree.map_structure(np.asarray, x)
    count, batch_size = len(np.asarray(leaves[0])), batch_size or 32
    batches = [
        keras.tree.map_structure(lambda leaf, i=i: leaf[i : i + batch_size], arrays)
        for i in range(0, count, batch_size)
    ]
    for batch in batches:
        cache.add(batch)
    cache.flush()
    return _join(x, [np.concatenate(parts) for parts in zip(*map(cache.take, batches), strict=True)])


def _join(x, outputs):
    return {_INPUTS: x, _OUTPUTS: {f"{i:04d}": output for i, output in enumerate(outputs)}}


def _teach_tf_dataset(dataset, cache):
    import tensorflow as tf

    infinite = int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY
    remedy = "Use Dataset.take before Dataset.repeat, or train without teacher_cache."
    expect(not infinite, "Distiller.fit", "a finite dataset with teacher_cache", remedy, cardinality="infinite")
    for batch in dataset:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        cache.add(keras.tree.map_structure(lambda leaf: leaf.numpy(), x))
    cache.flush()
    sample = cache.sample()

    def attach(*batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch if len(batch) > 1 else batch[0])
        leaves = keras.tree.flatten(x)
        outputs = tf.numpy_function(lambda *x: cache.take(x), leaves, [leaf.dtype for leaf in sample], stateful=False)
        for output, leaf in zip(outputs, sample, strict=True):
            output.set_shape((leaves[0].shape[0], *leaf.shape[1:]))
        return keras.utils.pack_x_y_sample_weight(_join(x, outputs), y, sample_weight)

    return dataset.map(attach, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _teach_py_dataset(dataset, cache):
    batches = dataset.num_batches
    rule = "a PyDataset of known length with teacher_cache"
    expect(batches is not None, "Distiller.fit", rule, "Implement __len__.", num_batches=batches)
    for i in range(batches):
        cache.add(keras.utils.unpack_x_y_sample_weight(dataset[i])[0])
    cache.flush()
    return _TaughtPyDataset(dataset, cache)


class _TaughtPyDataset(keras.utils.PyDataset):
    """A PyDataset whose inputs carry the teachers' outputs."""

    def __init__(self, dataset, cache):
        # Worker processes would each hold a copy of the cache; threads share it.
        super().__init__(dataset.workers, use_multiprocessing=False, max_queue_size=dataset.max_queue_size)
        self._dataset, self._cache = dataset, cache

    def __len__(self):
        return self._dataset.num_batches

    def __getitem__(self, index):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self._dataset[index])
        return keras.utils.pack_x_y_sample_weight(_join(x, self._cache.take(x)), y, sample_weight)

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
