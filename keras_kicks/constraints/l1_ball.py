"""The constraint to the L1 ball."""

import keras

from keras_kicks.constraints.ball import Ball
from keras_kicks.ops.l1_projection import l1_projection


@keras.saving.register_keras_serializable(package="keras_kicks")
class L1Ball(Ball):
    """Keeps the sum of magnitudes within a radius; weights become exactly 0.

    After each step, weights outside of the ball go to its nearest point,

        w <- sign(w) max(|w| - t, 0)   with t such that sum |w| = radius,

    and weights inside stay as they are, bit for bit. This is the lasso as a constraint: for each weight of the penalty
    `keras_kicks.regularizers.Lasso` there is a radius with the same solution, the sum of the solution's magnitudes.

    Args:
        radius: Largest sum of magnitudes, > 0.
        axis: Axis or axes that the sum is over, as in `keras.constraints.MaxNorm`: 0 for the weights into each unit
            of a Dense layer, [0, 1, 2] for each filter of a Conv2D; None for the whole tensor.

    Call arguments:
        w: Weight of any shape and floating dtype.

    Returns:
        The weight's shape and dtype.

    Raises:
        TypeError: radius is no number; an axis is no integer.
        ValueError: expected a finite radius > 0; one or more axes of the weight, none of them twice.

    Source:
        Duchi, Shalev-Shwartz, Singer and Chandra 2008, "Efficient projections onto the L1-ball for learning in high
        dimensions". Departure: the threshold is found by Newton's steps, not by sorting; it is the same.

    Example:
        >>> w = L1Ball(1.0)(keras.ops.convert_to_tensor([1.0, -0.75, 0.125]))
        >>> keras.ops.convert_to_numpy(w).tolist()
        [0.625, -0.375, 0.0]
    """

    def _project(self, w):
        return l1_projection(w, self.radius, self.axis)
