"""The constraint to the L-infinity ball."""

import keras
from keras import ops

from keras_kicks.constraints.ball import checked_radius


@keras.saving.register_keras_serializable(package="keras_kicks")
class LinfBall(keras.constraints.Constraint):
    """Keeps every weight between -radius and radius.

    Weights outside are clipped after each step; weights inside stay as they are, bit for bit. There is no axis: the
    largest magnitude of a tensor is within the radius where that of each part is.

    Args:
        radius: Largest magnitude, > 0.

    Call arguments:
        w: Weight of any shape and floating dtype.

    Returns:
        The weight's shape and dtype.

    Raises:
        TypeError: radius is no number.
        ValueError: expected a finite radius > 0.

    Source:
        The notes' norm of infinite order, as a constraint; Arjovsky, Chintala and Bottou 2017, arXiv:1701.07875, where
        it bounds the slope of a critic. Keras has no constraint of it.

    Example:
        >>> w = LinfBall(1.0)(keras.ops.convert_to_tensor([3.0, -0.5]))
        >>> keras.ops.convert_to_numpy(w).tolist()
        [1.0, -0.5]
    """

    def __init__(self, radius=1.0):
        self.radius = checked_radius(type(self).__name__, radius)

    def __call__(self, w):
        """Return the clipped weights."""
        return ops.clip(ops.convert_to_tensor(w), -self.radius, self.radius)

    def get_config(self):
        """Return the constructor arguments."""
        return {"radius": self.radius}
