"""The constraint to the L2 ball."""

import keras
from keras import ops

from keras_kicks.constraints.ball import Ball


@keras.saving.register_keras_serializable(package="keras_kicks")
class L2Ball(Ball):
    """Keeps the Euclidean norm within a radius.

    After each step, weights outside of the ball are divided by their norm and multiplied by the radius; weights inside
    stay as they are, bit for bit.

    Args:
        radius: Largest norm, > 0.
        axis: Axis or axes that the norm is over, as in `keras.constraints.MaxNorm`: 0 for the weights into each unit
            of a Dense layer, [0, 1, 2] for each filter of a Conv2D; None for the whole tensor.

    Call arguments:
        w: Weight of any shape and floating dtype.

    Returns:
        The weight's shape and dtype.

    Raises:
        TypeError: radius is no number; an axis is no integer.
        ValueError: expected a finite radius > 0; one or more axes of the weight, none of them twice.

    Source:
        Srebro and Shraibman 2005; Srivastava et al. 2014 (with Dropout). `keras.constraints.MaxNorm` is meant to be the
        same, but multiplies weights inside by norm / (norm + 1e-7) in every step, which small ones do not survive,
        and makes zeros, or no numbers, of weights whose squares leave the range of their dtype.

    Example:
        >>> w = L2Ball(2.5)(keras.ops.convert_to_tensor([3.0, -4.0]))
        >>> keras.ops.convert_to_numpy(w).tolist()
        [1.5, -2.0]
    """

    def _project(self, w):
        largest = ops.amax(ops.abs(w), axis=self.axis, keepdims=True)
        # Divided by the largest first, so that no square leaves the range.
        largest = ops.where(largest > 0, largest, ops.ones_like(largest))
        share = w / largest
        root = ops.sqrt(ops.sum(ops.square(share), axis=self.axis, keepdims=True))
        return ops.where(largest * root > self.radius, share * (self.radius / ops.maximum(root, 1.0)), w)
