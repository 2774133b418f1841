"""Inputs of a model from what users pass: arrays, dicts, or batches of them."""

import itertools

import keras
import numpy as np

from keras_kicks._errors import expect


def named_arrays(owner, x, signature):
    """Return `{name: array}` of inputs in the structure of a model, or in a dict by name.

    Raises:
        TypeError: `x` has another structure.
        ValueError: expected inputs of the model's shapes; as many samples of each; finite numbers that the dtype of the
            input holds.
    """
    flat = _flatten(x, signature)
    takes = ", ".join(f"{n}: {spec.shape}" for n, spec in zip(signature.names, signature.specs, strict=True))
    remedy = f"It takes {takes}."
    expect(flat is not None, owner, "inputs as the model takes them", remedy, TypeError, inputs=type(x).__name__)
    arrays = {}
    for name, spec, value in zip(signature.names, signature.specs, flat, strict=True):
        given = np.asarray(value)
        wanted = tuple(spec.shape[1:])
        fits = given.ndim == len(spec.shape) and all(
            w in (None, n) for w, n in zip(wanted, given.shape[1:], strict=True)
        )
        shape = str((None, *wanted))
        expect(fits, owner, f"inputs of shape {shape}", "The first axis is that of samples.", **{name: given.shape})
        arrays[name] = _cast(owner, given, spec.dtype, name)
    counts = {name: len(array) for name, array in arrays.items()}
    expect(len(set(counts.values())) == 1, owner, "as many samples of each input", samples=counts)
    return arrays


def rows_of(count, size):
    """Yield the rows of one batch after the other; the last is filled up from the beginning."""
    for start in range(0, count, size):
        yield np.arange(start, start + size) % count


def representative_batches(owner, data, signature):
    """Yield `{name: array}` for one batch of the model after the other.

    Args:
        owner: Name for the error messages.
        data: Inputs in the structure of the model, or an iterable of batches, as a tf.data.Dataset. A tuple is (x, y),
            as it is for `fit`.
        signature: Of the model.

    Raises:
        ValueError: expected a sample in the data; data that ends; and as in `named_arrays`.
    """
    given = _inputs(data)
    whole = hasattr(given, "__array__") or isinstance(given, dict) or _flatten(given, signature) is not None
    total = 0
    for batch in [given] if whole else batches(owner, given):
        arrays = named_arrays(owner, _inputs(batch), signature)
        count = len(next(iter(arrays.values())))
        total += count
        for rows in rows_of(count, signature.specs[0].shape[0]):
            yield {name: array[rows] for name, array in arrays.items()}
    expect(total > 0, owner, "data with a sample in it", samples=0)


def batches(owner, data):
    """Return an iterator of the batches of a dataset.

    Raises:
        TypeError: `data` is not iterable.
        ValueError: expected data that ends.
    """
    iterable = np.iterable(data) and not isinstance(data, str)
    expect(iterable, owner, "arrays or an iterable of batches", error=TypeError, data=type(data).__name__)
    if isinstance(data, keras.utils.PyDataset):
        # It does not end by itself.
        return (data[i] for i in range(data.num_batches))
    cardinality = getattr(data, "cardinality", lambda: None)()
    # This is how a tf.data.Dataset says that it is infinite.
    ends = cardinality is None or int(cardinality) != -1
    expect(ends, owner, "data that ends", "Take as many batches as you want: data.take(100).", cardinality="infinite")
    return iter(data)


def first_of(iterator):
    """Return an iterator of the same, whose first element has been made: a mistake in it shows now."""
    return itertools.chain([next(iterator)], iterator)


def _inputs(batch):
    return batch[0] if isinstance(batch, tuple) and batch else batch


def _cast(owner, array, dtype, name):
    dtype = keras.backend.standardize_dtype(dtype)
    number = np.issubdtype(array.dtype, np.number) or array.dtype == bool or array.dtype.name == "bfloat16"
    expect(number, owner, "numbers for inputs", error=TypeError, input=name, dtype=str(array.dtype))
    expect(bool(np.isfinite(array).all()), owner, "finite inputs", "Look for NaN.", input=name)
    with np.errstate(all="ignore"):
        cast = array.astype(dtype, copy=False)
    same = keras.backend.is_float_dtype(dtype) or np.array_equal(cast, array)
    first = array[cast != array][:1].tolist()
    expect(same, owner, f"inputs that {dtype} holds", input=name, value=first)
    return cast


def _flatten(x, signature):
    """Return the arrays of `x` in the order of the signature, or None if it has another structure."""
    if isinstance(x, dict) and set(x) == set(signature.names):
        return [x[name] for name in signature.names]
    if len(signature.names) == 1 and not isinstance(signature.structure, dict):
        return [x] if hasattr(x, "__array__") else None
    try:
        keras.tree.assert_same_structure(signature.structure, x)
    except (TypeError, ValueError):
        return None
    return keras.tree.flatten(x)
