"""Group normalization of a feature map, with its gradient written by hand."""

import functools

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.position_sums import sum_positions


def group_norm(x, gamma, beta, groups, epsilon, channel_axis):
    """Normalize each group of channels of each sample to mean 0 and variance 1, then scale and shift per channel.

    The statistics take two passes (mean, then squared deviations), so that a large mean does not cancel the variance;
    they are computed in float32 or wider whatever the dtype of `x`.

    Args:
        x: Shape (n, positions, channels) or (n, channels, positions); any floating dtype.
        gamma: Shape (channels,).
        beta: Shape (channels,).
        groups: Number of groups; divides the channels.
        epsilon: Added to the variance.
        channel_axis: 2 or 1, the axis of `x` that holds the channels.

    Returns:
        The shape and dtype of `x`.
    """
    if keras.backend.backend() == "torch":
        return _torch_group_norm(x, gamma, beta, groups, epsilon, channel_axis)
    return _kernel(groups, epsilon, channel_axis)(x, gamma, beta)


def group_norm_reference(x, gamma, beta, groups, epsilon, channel_axis):
    """The same from the definition, in plain operations: what `group_norm` is tested against."""
    dtype = keras.backend.result_type(x.dtype, "float32")
    n, channels = ops.shape(x)[0], x.shape[channel_axis]
    split = (n, ops.shape(x)[1], groups, channels // groups) if channel_axis == 2 else (n, groups, -1)
    axes = (1, 3) if channel_axis == 2 else (2,)
    grouped = ops.reshape(ops.cast(x, dtype), split)
    mean = ops.mean(grouped, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(grouped - mean), axis=axes, keepdims=True)
    normal = ops.reshape((grouped - mean) * ops.rsqrt(variance + epsilon), ops.shape(x))
    shape = (1, 1, -1) if channel_axis == 2 else (1, -1, 1)
    scale, offset = (ops.reshape(ops.cast(vector, dtype), shape) for vector in (gamma, beta))
    return ops.cast(normal * scale + offset, x.dtype)


@functools.cache
def _kernel(groups, epsilon, channel_axis):
    """Forward and backward pass for one setting, compiled where that pays."""
    axis = 3 - channel_axis

    def per_channel(vector, wide):
        return ops.reshape(ops.cast(vector, wide.dtype), (1, 1, -1) if channel_axis == 2 else (1, -1, 1))

    def group_mean(sums, positions):
        """From sums per channel to the mean of each group, repeated for each of its channels."""
        channels = sums.shape[channel_axis]
        grouped = ops.reshape(sums, (-1, groups, channels // groups))
        mean = ops.mean(grouped, axis=2, keepdims=True) / positions
        return ops.reshape(ops.tile(mean, (1, 1, channels // groups)), ops.shape(sums))

    def positions_of(x):
        return x.shape[axis] if x.shape[axis] is not None else ops.cast(ops.shape(x)[axis], x.dtype)

    def widen(x):
        return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))

    @cluster
    def forward(x, gamma, beta):
        wide = widen(x)
        positions = positions_of(wide)
        mean = group_mean(sum_positions(lambda x: x, wide, axis=axis), positions)
        variance = group_mean(sum_positions(lambda x: ops.square(x - mean), wide, axis=axis), positions)
        rstd = ops.rsqrt(variance + epsilon)
        y = (wide - mean) * (rstd * per_channel(gamma, wide)) + per_channel(beta, wide)
        return ops.cast(y, x.dtype), mean, rstd

    @cluster
    def backward(upstream, x, gamma, mean, rstd):
        dy, wide = widen(upstream), widen(x)
        positions = positions_of(wide)
        dbeta = sum_positions(lambda dy: dy, dy, axis=axis)
        dgamma = rstd * sum_positions(lambda dy, x: dy * (x - mean), dy, wide, axis=axis)
        scale = per_channel(gamma, wide)
        offset = group_mean(dbeta * scale, positions)
        slope = group_mean(dgamma * scale, positions)
        dx = rstd * (dy * scale - offset - (wide - mean) * (rstd * slope))
        return (
            ops.cast(dx, x.dtype),
            ops.cast(ops.reshape(ops.sum(dgamma, axis=0), (-1,)), gamma.dtype),
            ops.cast(ops.reshape(ops.sum(dbeta, axis=0), (-1,)), gamma.dtype),
        )

    @ops.custom_gradient
    def normalize(x, gamma, beta):
        y, mean, rstd = forward(x, gamma, beta)

        def gradient(upstream):
            return backward(upstream, x, gamma, mean, rstd)

        return y, gradient

    return normalize


def _torch_group_norm(x, gamma, beta, groups, epsilon, channel_axis):
    """Torch has the kernel, forward and backward; it wants the channels second and one dtype."""
    import torch

    dtype = keras.backend.result_type(x.dtype, "float32")
    moved = ops.cast(x, dtype) if channel_axis == 1 else ops.swapaxes(ops.cast(x, dtype), 1, 2)
    # Not the one of torch.nn.functional, which refuses groups of one number.
    y = torch.group_norm(moved, groups, ops.cast(gamma, dtype), ops.cast(beta, dtype), epsilon)
    return ops.cast(y if channel_axis == 1 else ops.swapaxes(y, 1, 2), x.dtype)
