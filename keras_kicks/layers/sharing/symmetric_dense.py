"""A dense layer whose kernel is its own mirror image."""

import keras

from keras_kicks.layers.sharing.mirrored import Mirrored
from keras_kicks.ops.mirror import axes_or_axis, axes_within


@keras.saving.register_keras_serializable(package="keras_kicks")
class SymmetricDense(Mirrored, keras.layers.Dense):
    """Dense layer with a left-right symmetric kernel, of which it stores one half.

        y = activation(x K + b)   with K = flip(K, axis)

    With the default axes the weight from input i to unit j is the one from the i-th last input to the j-th last unit,
    and the bias is symmetric too: mirrored inputs give mirrored outputs, and so do several such layers in a row. With
    axis 0 mirrored inputs give the same outputs. Sizes may be odd: an element that is its own mirror image is stored
    once.

    An element of the half gets the sum of the gradients of both of its places. So a step of gradient descent is twice
    that of a plain layer with `keras_kicks.constraints.Symmetric`, but for elements that are their own mirror image.

    Args:
        units: Number of outputs, >= 1.
        axis: Axis or axes of the kernel, of shape (inputs, units), that are flipped together: 0, 1 or [0, 1].
        **kwargs: Arguments of `keras.layers.Dense`. Initializers, regularizers and constraints see the whole weights.

    Call arguments:
        inputs: Shape (batch, ..., inputs), floating.

    Returns:
        Shape (batch, ..., units), in the compute dtype. `kernel` and `bias` are whole; the weights are the halves.

    Raises:
        TypeError: axis is no integer and no list of integers.
        ValueError: expected one or more axes, none of them twice; axes of the kernel, from -2 to 1.

    Masking:
        The mask is passed on.

    Source:
        The notes' parameter sharing: "left-right symmetric parameters between the nodes of an MLP".

    Example:
        >>> import numpy as np
        >>> layer = SymmetricDense(4)
        >>> x = np.array([[1.0, 2.0, 3.0]])
        >>> y, mirrored = layer(x), layer(x[:, ::-1])
        >>> bool(keras.ops.all(keras.ops.isclose(y, keras.ops.flip(mirrored, axis=1), atol=1e-6)))
        True
        >>> layer.count_params(), layer.kernel.shape[0] * layer.kernel.shape[1] + 4
        (8, 16)
    """

    def __init__(self, units, axis=(0, 1), **kwargs):
        super().__init__(units, **kwargs)
        owner = type(self).__name__
        self.axis = axes_or_axis(owner, axis)
        self._axes = axes_within(owner, self.axis, 2, "the kernel")
        self._whole_shapes = {}

    def _mirrors(self, name):
        return {"kernel": self._axes, "bias": [0] if 1 in self._axes else []}.get(name, [])

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "axis": self.axis}
