"""Some examples out of data, drawn at random."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks._seeds import numpy_seed


def drawn_samples(owner, data, samples, seed, steps=None):
    """Return examples drawn without replacement, each with the same chance, in memory.

    Args:
        owner: Whom to name in errors.
        data: An array, a tuple of arrays, or something that gives batches in each iteration: arrays, or tuples or dicts
            of these.
        samples: How many to draw; all, if there are no more.
        seed: Of the draw.
        steps: Batches to look at, or None for all.

    Returns:
        The examples, in the structure of a batch, NumPy arrays in place of tensors.

    Raises:
        ValueError: expected data that end, or steps; data with at least one batch.
    """
    rng = np.random.default_rng(numpy_seed(seed))
    data = (data,) if hasattr(data, "shape") else data
    if isinstance(data, tuple):
        size = len(keras.tree.flatten(data)[0])
        rows = np.sort(rng.permutation(size)[:samples])
        return keras.tree.map_structure(lambda array: np.asarray(_numpy(array))[rows], data)
    remedy = "Pass steps, to look at the first batches."
    endless = steps is None and _is_endless(data)
    expect(not endless, owner, "data that end", remedy, data=data)
    # An example is drawn if its random key is among the smallest: then a batch can be forgotten when it was seen.
    keys, kept = np.empty(0), None
    for i, batch in enumerate(_batches(data)):
        if i == steps:
            break
        batch = keras.tree.map_structure(_numpy, batch)
        both = batch if kept is None else keras.tree.map_structure(lambda *pair: np.concatenate(pair), kept, batch)
        keys = np.append(keys, rng.random(len(keras.tree.flatten(batch)[0])))
        rows = np.sort(np.argsort(keys)[:samples])
        keys, kept = keys[rows], keras.tree.map_structure(lambda array, rows=rows: array[rows], both)
    expect(kept is not None, owner, "data with at least one batch", data=data)
    return kept


def _batches(data):
    # A PyDataset has a length, and no iterator that ends.
    return (data[i] for i in range(len(data))) if isinstance(data, keras.utils.PyDataset) else iter(data)


def _is_endless(data):
    cardinality = getattr(data, "cardinality", None)
    if callable(cardinality):
        return int(cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
    return isinstance(data, keras.utils.PyDataset) and data.num_batches is None


def _numpy(array):
    return array if isinstance(array, np.ndarray) else np.asarray(ops.convert_to_numpy(array))
