"""The constraint to weights that are equal to their mirror image."""

import keras

from keras_kicks.ops.mirror import axes_or_axis, axes_within, mirrored_mean


@keras.saving.register_keras_serializable(package="keras_kicks")
class Symmetric(keras.constraints.Constraint):
    """Keeps a weight equal to its mirror image.

    After each step it goes to the nearest such weight, the mean of itself and its flip:

        w <- (w + flip(w, axis)) / 2

    Weights that are mirror images of each other are equal from the first step on, bit for bit. For a Dense layer, axis
    0 makes its outputs the same for mirrored inputs, and [0, 1] is a network that is left-right symmetric: the weight
    from input i to unit j is the one from the i-th last input to the j-th last unit.

    `keras_kicks.layers.SymmetricDense` and `SymmetricConv2D` store half of such a kernel.

    Args:
        axis: Axis to flip, or a list of axes that are flipped together; negative ones count from the last.

    Call arguments:
        w: Weight of floating dtype, with these axes.

    Returns:
        The weight's shape and dtype.

    Raises:
        TypeError: axis is no integer and no list of integers.
        ValueError: expected one or more axes, none of them twice; axes of the weight.

    Source:
        The notes' parameter sharing. The mean is the projection in the Euclidean distance.

    Example:
        >>> from keras_kicks.constraints import Symmetric
        >>> w = keras.ops.convert_to_tensor([[1.0, 2.0], [5.0, 4.0]])
        >>> keras.ops.convert_to_numpy(Symmetric(0)(w)).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
        >>> keras.ops.convert_to_numpy(Symmetric([0, 1])(w)).tolist()
        [[2.5, 3.5], [3.5, 2.5]]
    """

    def __init__(self, axis=0):
        self.axis = axes_or_axis(type(self).__name__, axis)

    def __call__(self, w):
        """Return the nearest weight."""
        return mirrored_mean(w, axes_within(type(self).__name__, self.axis, len(w.shape)))

    def get_config(self):
        """Return the constructor arguments."""
        return {"axis": self.axis}
