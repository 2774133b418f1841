"""Momentum."""

import keras

from keras_kicks._errors import expect_rate
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByMomentum(Transform):
    """Sums gradients, of which old ones count less.

        v <- momentum v + g
        u = v, or with `nesterov` g + momentum v

    Args:
        momentum: In [0, 1).
        nesterov: Whether to look ahead.

    Returns:
        A transform for `Chain`. It remembers "velocity" for each variable.

    Raises:
        TypeError: `momentum` is no number.
        ValueError: expected 0 <= momentum < 1.

    Source:
        Polyak 1964; Sutskever, Martens, Dahl and Hinton 2013, "On the importance of initialization and momentum in
        deep learning". Departure: the learning rate is not part of v, as in torch; with a constant rate that is the
        same.

    Example:
        >>> ScaleByMomentum(0.9, nesterov=True).get_config()
        {'momentum': 0.9, 'nesterov': True}
    """

    def __init__(self, momentum=0.9, nesterov=False):
        expect_rate(type(self).__name__, momentum=momentum)
        self.momentum, self.nesterov = float(momentum), bool(nesterov)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {"velocity": (shape, 0.0)}

    def update(self, gradients, state, now):
        """Sum the gradients."""
        velocity = [self.momentum * v + g for v, g in zip(state["velocity"], gradients, strict=True)]
        state["velocity"] = velocity
        if not self.nesterov:
            return velocity, state
        return [g + self.momentum * v for v, g in zip(velocity, gradients, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        return {"momentum": self.momentum, "nesterov": self.nesterov}
