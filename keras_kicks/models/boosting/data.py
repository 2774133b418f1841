"""Training data as whole arrays: boosting weighs every sample anew in each round."""

import itertools

import keras
import numpy as np

from keras_kicks._errors import expect


def whole(owner, x, y=None, sample_weight=None, steps=None):
    """Return inputs, labels and weights as NumPy arrays; what was not given is None.

    Args:
        owner: Name of who asks.
        x: Arrays, tensors or a structure of them; or batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, any
            iterable of known length, or one of unknown length and `steps`.
        y: Labels, unless `x` holds them.
        sample_weight: Weight of each sample, unless `x` holds it.
        steps: Number of batches to take, or None for all.

    Raises:
        ValueError: expected data of known, finite length, or a number of steps; arrays with an axis for the samples;
            at least one sample; as many labels and weights as inputs.
    """
    if not _is_arrays(x):
        rule, remedy = "no y and no sample_weight beside batches", "The batches hold them."
        expect(y is None and sample_weight is None, owner, rule, remedy, x=type(x))
        x, y, sample_weight = _joined(owner, x, steps)
    x, y, sample_weight = keras.tree.map_structure(_array, (x, y, sample_weight), none_is_leaf=False)
    arrays = [a for a in keras.tree.flatten((x, y, sample_weight)) if a is not None]
    rule, remedy = "arrays with an axis for the samples", "A list is a list of inputs: make an array of one of numbers."
    expect(all(a.ndim for a in arrays), owner, rule, remedy, shapes=sorted({a.shape for a in arrays}))
    counts = [len(a) for a in arrays]
    expect(counts and counts[0] > 0, owner, "at least one sample", samples=counts[0] if counts else 0)
    expect(len(set(counts)) == 1, owner, "as many labels and weights as inputs", lengths=counts)
    return x, y, sample_weight


def rows(structure, places):
    """Return these rows of every array."""
    return keras.tree.map_structure(lambda a: a[places], structure)


def split(owner, share, x, y, weights):
    """Return the first samples and the last, of which there is a share."""
    expect(0 < share < 1, owner, "0 < validation_split < 1", validation_split=share)
    count = len(keras.tree.flatten(x)[0])
    first = int(count * (1 - share))
    expect(0 < first < count, owner, "samples on both sides of validation_split", validation_split=share, samples=count)
    ends = slice(None, first), slice(first, None)
    return [(rows(x, end), y[end], None if weights is None else weights[end]) for end in ends]


def sample_weights(owner, count, sample_weight, class_weight=None, ids=None):
    """Return a weight for each sample in float64, of the mean 1.

    Raises:
        ValueError: expected finite sample weights >= 0, one a sample, not all zero; labels of classes and a weight >=
            0 for each class, for class_weight.
    """
    weights = np.ones(count)
    if sample_weight is not None:
        given = np.asarray(sample_weight, "float64")
        given = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
        expect(given.shape == (count,), owner, "one weight for each sample", shape=given.shape, samples=count)
        weights = weights * given
    if class_weight is not None:
        expect(ids is not None, owner, "labels of classes for class_weight", class_weight=class_weight)
        weights = weights * np.array([float(class_weight.get(int(i), 1.0)) for i in ids])
    good = np.isfinite(weights).all() and (weights >= 0).all()
    expect(good, owner, "finite weights >= 0", smallest=float(np.min(weights)))
    remedy = "A sample of weight 0 is not seen: give some of them more."
    expect(weights.sum() > 0, owner, "sample weights that are not all zero", remedy, sum=0.0)
    return weights / weights.mean()


def _is_arrays(x):
    """Whether these are arrays or a structure of them, and no batches."""
    if isinstance(x, keras.utils.PyDataset):
        return False
    return isinstance(x, (dict, list, tuple)) or hasattr(x, "shape")


def _array(x):
    if keras.ops.is_tensor(x):
        return np.array(keras.ops.convert_to_numpy(x))
    return np.asarray(x)


def _length(batches):
    """The number of batches, or None."""
    if isinstance(batches, keras.utils.PyDataset):
        return batches.num_batches
    if hasattr(batches, "cardinality"):
        count = int(batches.cardinality())
        return None if count == -1 else count if count != -2 else -2
    return len(batches) if hasattr(batches, "__len__") else None


def _joined(owner, batches, steps):
    """Return one pass over batches, joined."""
    iterable = hasattr(batches, "__iter__") or isinstance(batches, keras.utils.PyDataset)
    expect(iterable, owner, "arrays or batches", error=TypeError, x=type(batches))
    length = _length(batches)
    # A dataset of unknown length ends; one of -1 (known to be infinite) and a generator may not.
    finite = steps is not None or (length is not None and length != -1)
    expect(finite, owner, "data of known, finite length", "Pass steps_per_epoch.", x=type(batches))
    if isinstance(batches, keras.utils.PyDataset):
        batches = map(batches.__getitem__, range(length if steps is None else min(steps, length or steps)))
    taken = [keras.utils.unpack_x_y_sample_weight(batch) for batch in itertools.islice(iter(batches), steps)]
    expect(len(taken) > 0, owner, "at least one batch", batches=0)
    taken = [keras.tree.map_structure(_array, batch, none_is_leaf=False) for batch in taken]
    parts = [[batch[i] for batch in taken] for i in range(3)]
    return [
        None if part[0] is None else keras.tree.map_structure(lambda *a: np.concatenate(a), *part) for part in parts
    ]
