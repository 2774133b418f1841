"""Tensors that are equal to their mirror image, and their halves."""

from math import prod

from keras import ops

from keras_kicks._errors import expect, expect_integer


def mirrored_mean(x, axes):
    """Return the nearest tensor that is equal to its flip along `axes`: the mean of both."""
    x = ops.convert_to_tensor(x)
    return ops.multiply(ops.add(x, ops.flip(x, axes)), 0.5)


def half_shape(shape, axes):
    """Return the shape of the half of a mirror image: elements of `axes` in one row, then the other axes."""
    return (-(-prod(shape[axis] for axis in axes) // 2), *(shape[axis] for axis in _others(shape, axes)))


def first_half(x, axes):
    """Return the first half of a tensor, in which an element of the second has the same value as its mirror image.

    A flip along several axes reverses the order of their elements, as these lie in memory: so the half are the first of
    these, with the one in the middle if their number is odd.
    """
    shape = tuple(x.shape)
    order = [*axes, *_others(shape, axes)]
    rows = half_shape(shape, axes)
    flat = ops.reshape(ops.transpose(x, order), (-1, *rows[1:]))
    return flat[: rows[0]]


def whole(half, shape, axes):
    """Return the tensor of a shape, equal to its flip along `axes`, of which `half` is the first half."""
    rest = _others(shape, axes)
    half = ops.convert_to_tensor(half)
    second = ops.flip(half[: prod(shape[axis] for axis in axes) // 2], 0)
    order = [*axes, *rest]
    full = ops.reshape(ops.concatenate([half, second]), [shape[axis] for axis in order])
    return full if order == sorted(order) else ops.transpose(full, [order.index(axis) for axis in range(len(shape))])


def axes_or_axis(owner, axis):
    """Return an integer as it is, and several as a list."""
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    for number in axes:
        expect_integer(owner, "Pass an integer or a list of them.", axis=number)
    distinct = len(axes) > 0 and len(set(axes)) == len(axes)
    expect(distinct, owner, "one or more axes, none of them twice", axis=axis)
    return [int(number) for number in axes] if isinstance(axis, (list, tuple)) else int(axis)


def axes_within(owner, axis, rank, of="the weight"):
    """Return axes as a sorted list of numbers from 0."""
    axes = axis if isinstance(axis, list) else [axis]
    inside = all(-rank <= number < rank for number in axes)
    expect(inside, owner, f"axes of {of}, from {-rank} to {rank - 1}", axis=axis)
    found = sorted({number % rank for number in axes})
    expect(len(found) == len(axes), owner, "one or more axes, none of them twice", axis=axis)
    return found


def _others(shape, axes):
    return [axis for axis in range(len(shape)) if axis not in axes]
