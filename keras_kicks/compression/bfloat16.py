"""Weights of 16 bits: the upper half of a float32."""

import zipfile

import keras
import numpy as np

from keras_kicks._errors import expect, expect_choice, expect_seed
from keras_kicks.compression.compressed import Compressed, weights_size
from keras_kicks.compression.prune import expect_model
from keras_kicks.compression.whole_file import expect_source, expect_target, whole_file

ROUNDINGS = ("truncate", "nearest", "stochastic")
# Weights that are bfloat16 already are the same file.
_WIDE = ("float32", "bfloat16")


def to_bfloat16(model, rounding="truncate", seed=None):
    """Round the weights of a model to values that 16 bits can hold.

    A bfloat16 is the upper half of a float32: sign, 8 bits of exponent, 7 of mantissa. The model itself is changed,
    and returned. Its weights are float32 as before, so that it computes and trains as before; it is the file of
    `save_bfloat16_weights` that is half as large. Weights of other dtypes are left alone.

    Args:
        model: A built model or layer.
        rounding: "truncate" drops the lower 16 bits, which makes weights smaller by 0.3 % on average;
            "nearest" takes the nearer neighbour, on a tie the even one; "stochastic" takes the upper neighbour with the
            dropped fraction as its probability, so that the mean is kept. NaN stays NaN and infinity infinity. What
            lies beyond the largest bfloat16, 3.39e38, may become infinite, but by "truncate".
        seed: Integer >= 0 for "stochastic", or None for other draws every time.

    Returns:
        The model.

    Raises:
        TypeError: `model` is no model of Keras 3, `seed` no integer.
        ValueError: expected a built model; rounding "truncate", "nearest" or "stochastic"; seed >= 0.

    Source:
        Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", 2019, arXiv:1905.12322; Gupta et al., "Deep
        Learning with Limited Numerical Precision" (stochastic rounding), 2015, arXiv:1502.02551.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[0.1]]), np.array([1.0])])
        >>> [weight.item() for weight in to_bfloat16(model).get_weights()]
        [0.099609375, 1.0]
        >>> model.set_weights([np.array([[0.1]]), np.array([1.0])])
        >>> to_bfloat16(model, rounding="nearest").get_weights()[0].item()
        0.10009765625
    """
    owner = "to_bfloat16"
    expect_model(owner, model)
    expect_choice(owner, ROUNDINGS, rounding=rounding)
    expect_seed(owner, seed)
    expect(seed is None or seed >= 0, owner, "seed >= 0", seed=seed)
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(widen(upper_half(keras.ops.convert_to_numpy(weight), rounding, generator)))
    return model


def upper_half(x, rounding, generator=None):
    """Return the bits of float32 numbers rounded to bfloat16, as uint16 of the same shape."""
    # Flat, since NumPy warns of a carry out of a single number, which a NaN with all bits set has.
    x, shape = np.asarray(x, dtype=np.float32).ravel(), np.shape(x)
    bits = x.view(np.uint32)
    upper = (bits >> 16).astype(np.uint16)
    if rounding == "nearest":
        # Half of the last place less one, and one more where the last bit is odd: a tie goes to the even neighbour.
        bits = bits + (np.uint32(0x7FFF) + (upper & 1))
    elif rounding == "stochastic":
        bits = bits + generator.integers(0, 1 << 16, size=bits.shape, dtype=np.uint32)
    # A NaN is not rounded. If all bits that make it one are in the lower half, it gets the bit of a quiet NaN.
    quiet = np.where(upper & 0x7F, upper, upper | 0x40)
    return np.where(np.isnan(x), quiet, (bits >> 16).astype(np.uint16)).reshape(shape)


def widen(upper):
    """Return the float32 numbers with this upper half and zeros below."""
    return np.left_shift(upper, np.uint32(16), dtype=np.uint32).view(np.float32)


def save_bfloat16_weights(model, path):
    """Write the weights of a model from `to_bfloat16` to a file, 16 bits each.

    The file is written beside its name and renamed. It holds weights alone, not the architecture.

    Args:
        model: A built model or layer whose float32 weights are bfloat16 values. Weights of other dtypes are written as
            they are.
        path: File to write or replace, that ends with .npz.

    Returns:
        A `Compressed`: the size of the file, and that of the weights in memory.

    Raises:
        TypeError: `model` is no model of Keras 3, `path` no path.
        ValueError: expected a built model; weights from to_bfloat16; a path that ends with .npz, in a directory that
            exists.

    Example:
        >>> import os, tempfile
        >>> model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> saved = save_bfloat16_weights(to_bfloat16(model), path)
        >>> round(saved.size / saved.weights_size, 1)
        0.5
    """
    owner = "save_bfloat16_weights"
    expect_model(owner, model)
    path = expect_target(owner, path, ".npz")
    arrays = {}
    for i, weight in enumerate(model.weights):
        value = keras.ops.convert_to_numpy(weight)
        if weight.dtype in _WIDE:
            upper = upper_half(value, "truncate")
            same = np.array_equal(widen(upper), value, equal_nan=True)
            expect(same, owner, "weights from to_bfloat16", "Call it first.", weight=weight.path)
            value = upper
        arrays[_key(i, weight)] = value
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)
    return Compressed.of_file(path, "bfloat16", weights_size(model))


def load_bfloat16_weights(model, path):
    """Set the weights of a model to those of a file from `save_bfloat16_weights`.

    Args:
        model: A built model or layer with the same weights in the same order; the names of layers do not matter.
        path: The file.

    Returns:
        The model. If an error is raised its weights are as they were.

    Raises:
        TypeError: `model` is no model of Keras 3, `path` no path.
        ValueError: expected a built model; a file of save_bfloat16_weights; weights of the same shapes and dtypes.
    """
    owner = "load_bfloat16_weights"
    expect_model(owner, model)
    path = expect_source(owner, path)
    rule, remedy = "a file of save_bfloat16_weights", "It is another file, or damaged."
    expect(zipfile.is_zipfile(path), owner, rule, remedy, path=path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{owner}: expected {rule}; got path={path!r}. {remedy}") from error
    rule = "a file with the weights of this model, by their order, dtypes and shapes"
    keys = [_key(i, weight) for i, weight in enumerate(model.weights)]
    expect(list(arrays) == keys, owner, rule, path=path, weights_of_file=len(arrays), weights_of_model=len(keys))
    for weight, value in zip(model.weights, arrays.values(), strict=True):
        same = value.shape == tuple(weight.shape)
        expect(same, owner, rule, weight=weight.path, shape=value.shape, shape_of_model=tuple(weight.shape))
    for weight, value in zip(model.weights, arrays.values(), strict=True):
        weight.assign(widen(value) if weight.dtype in _WIDE else value)
    return model


def _key(i, weight):
    return f"{i:05d}-{'bfloat16' if weight.dtype in _WIDE else weight.dtype}"
