"""Convolutions whose kernels are their own mirror image."""

import keras

from keras_kicks.layers.sharing.mirrored import Mirrored
from keras_kicks.ops.mirror import axes_or_axis, axes_within


class SymmetricConv(Mirrored):
    """What they have in common, in front of a convolution of Keras."""

    def __init__(self, filters, kernel_size, axis, **kwargs):
        super().__init__(filters, kernel_size, **kwargs)
        owner = type(self).__name__
        self.axis = axes_or_axis(owner, axis)
        self._axes = axes_within(owner, self.axis, self.rank, "the window")
        self._whole_shapes = {}

    def _mirrors(self, name):
        return self._axes if name == "kernel" else []

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "axis": self.axis}


@keras.saving.register_keras_serializable(package="keras_kicks")
class SymmetricConv1D(SymmetricConv, keras.layers.Conv1D):
    """1D convolution with kernels that read the same in both directions, of which it stores one half.

        K[i] = K[size - 1 - i]

    A kernel of 5 has 3 weights for each pair of channels, and one of 4 has 2. With padding="same", stride 1 and an odd
    size, reversed inputs give reversed outputs. An element of the half gets the sum of the gradients of both of its
    places.

    Args:
        filters: Number of output channels, >= 1.
        kernel_size: Length of the window, >= 1.
        axis: Axis of the window that is flipped: 0.
        **kwargs: Arguments of `keras.layers.Conv1D`. Initializer, regularizer and constraint see the whole kernel.

    Call arguments:
        inputs: Shape (batch, steps, channels), floating; (batch, channels, steps) with
            data_format="channels_first".

    Returns:
        What `keras.layers.Conv1D` returns with the same kernel. `kernel` is whole; the weight is its half.

    Raises:
        TypeError: axis is no integer and no list of integers.
        ValueError: expected one or more axes, none of them twice; axes of the window, from -1 to 0.

    Masking:
        As in `keras.layers.Conv1D`: the mask is lost, with a warning.

    Source:
        The notes' parameter sharing. In signal processing: FIR filters of linear phase, types I and II.

    Example:
        >>> import numpy as np
        >>> layer = SymmetricConv1D(1, 3, use_bias=False)
        >>> layer.build((None, None, 1))
        >>> layer.set_weights([np.array([[[1.0]], [[2.0]]])])
        >>> keras.ops.convert_to_numpy(layer.kernel)[:, 0, 0].tolist()
        [1.0, 2.0, 1.0]
    """

    def __init__(self, filters, kernel_size, axis=0, **kwargs):
        super().__init__(filters, kernel_size, axis, **kwargs)


@keras.saving.register_keras_serializable(package="keras_kicks")
class SymmetricConv2D(SymmetricConv, keras.layers.Conv2D):
    """2D convolution with left-right symmetric kernels, of which it stores one half.

        K[i, j] = K[i, width - 1 - j]                      for axis 1
        K[i, j] = K[height - 1 - i, width - 1 - j]         for axis [0, 1]

    A window of 3 x 3 has 6 weights for each pair of channels (axis 0 or 1) or 5 (both together). With padding="same",
    stride 1 and an odd width, mirrored images give mirrored outputs. An element of the half gets the sum of the
    gradients of both of its places.

    Args:
        filters: Number of output channels, >= 1.
        kernel_size: Integer or pair of integers >= 1: height and width of the window.
        axis: Axis or axes of the window that are flipped together: 1 for left and right, 0 for top and bottom, [0, 1]
            for a half turn.
        **kwargs: Arguments of `keras.layers.Conv2D`. Initializer, regularizer and constraint see the whole kernel.

    Call arguments:
        inputs: Shape (batch, height, width, channels), floating; (batch, channels, height, width) with
            data_format="channels_first".

    Returns:
        What `keras.layers.Conv2D` returns with the same kernel. `kernel` is whole; the weight is its half.

    Raises:
        TypeError: axis is no integer and no list of integers.
        ValueError: expected one or more axes, none of them twice; axes of the window, from -2 to 1.

    Masking:
        As in `keras.layers.Conv2D`: the mask is lost, with a warning.

    Source:
        The notes' parameter sharing.

    Example:
        >>> layer = SymmetricConv2D(8, 3)
        >>> layer.build((None, 28, 28, 1))
        >>> tuple(layer.kernel.shape), layer.count_params()
        ((3, 3, 1, 8), 56)
    """

    def __init__(self, filters, kernel_size, axis=1, **kwargs):
        super().__init__(filters, kernel_size, axis, **kwargs)


@keras.saving.register_keras_serializable(package="keras_kicks")
class SymmetricConv3D(SymmetricConv, keras.layers.Conv3D):
    """3D convolution with kernels that are symmetric along one axis or more, of which it stores one half.

        K = flip(K, axis)

    An element of the half gets the sum of the gradients of both of its places.

    Args:
        filters: Number of output channels, >= 1.
        kernel_size: Integer or three integers >= 1: the window.
        axis: Axis or axes of the window that are flipped together, from 0 to 2; the last by default.
        **kwargs: Arguments of `keras.layers.Conv3D`. Initializer, regularizer and constraint see the whole kernel.

    Call arguments:
        inputs: Shape (batch, depth, height, width, channels), floating; channels before the others with
            data_format="channels_first".

    Returns:
        What `keras.layers.Conv3D` returns with the same kernel. `kernel` is whole; the weight is its half.

    Raises:
        TypeError: axis is no integer and no list of integers.
        ValueError: expected one or more axes, none of them twice; axes of the window, from -3 to 2.

    Masking:
        As in `keras.layers.Conv3D`: the mask is lost, with a warning.

    Source:
        The notes' parameter sharing.

    Example:
        >>> layer = SymmetricConv3D(2, 3, use_bias=False)
        >>> layer.build((None, 8, 8, 8, 1))
        >>> layer.count_params()  # of 54
        36
    """

    def __init__(self, filters, kernel_size, axis=2, **kwargs):
        super().__init__(filters, kernel_size, axis, **kwargs)
