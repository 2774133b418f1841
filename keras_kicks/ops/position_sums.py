"""Sums over the positions of a feature map, in the form that compiles to the fastest loop."""

import keras
from keras import ops

from keras_kicks.ops.cluster import xla_on_cpu


def sum_positions(term, *tensors, axis):
    """Sum `term(*tensors)` over one axis.

    XLA on the CPU runs such a reduction as a strided scalar loop, but an elementwise sum of a few long slices as
    vector instructions, so most of the sum is written as one there. Elsewhere the plain sum is used.

    Args:
        term: Elementwise function of as many arguments as there are tensors.
        *tensors: The same three-dimensional shape for all.
        axis: 1 or 2, the axis to sum over.

    Returns:
        The sum, with length 1 along `axis`.
    """
    length = tensors[0].shape[axis]
    slices = _slices(length)
    if slices == 1:
        return ops.sum(term(*tensors), axis=axis, keepdims=True)
    other = tensors[0].shape[3 - axis]
    shape = (-1, slices, length // slices, other) if axis == 1 else (-1, other, slices, length // slices)
    parts = [ops.reshape(x, shape) for x in tensors]
    total = None
    for i in range(slices):
        part = term(*(x[:, i] if axis == 1 else x[:, :, i] for x in parts))
        total = part if total is None else total + part
    return ops.sum(total, axis=axis, keepdims=True)


def sum_steps(term, *tensors):
    """Sum `term(*tensors)` over the first two axes, in the same form.

    Args:
        term: Elementwise function of as many arguments as there are tensors.
        *tensors: Shape (steps, batch, width) for all.

    Returns:
        Shape (width,).
    """
    length = tensors[0].shape[0]
    slices = _slices(length)
    rows = None if slices == 1 else length // slices
    total = None
    for i in range(slices):
        part = term(*(x if rows is None else x[i * rows : (i + 1) * rows] for x in tensors))
        total = part if total is None else total + part
    return ops.sum(total, axis=(0, 1))


def _slices(length):
    """The number of slices to sum elementwise: the largest divisor up to 16, beyond which nothing was gained."""
    if not length or keras.backend.backend() != "tensorflow" or not xla_on_cpu():
        return 1
    return max(n for n in range(1, 17) if length % n == 0)
