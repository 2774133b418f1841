"""RMSProp's step size for each weight."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number, expect_rate
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByRMSProp(Transform):
    """Divides gradients by the root of the running average of their squares.

        v <- rho v + (1 - rho) g^2
        m <- rho m + (1 - rho) g
        u = g / (sqrt(v) + epsilon), or with `centered` g / (sqrt(v - m^2) + epsilon)

    Args:
        rho: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        centered: Whether to divide by the standard deviation.

    Returns:
        A transform for `Chain`. It remembers "square" for each variable, and "mean" with `centered`.

    Raises:
        TypeError: a number is none.
        ValueError: expected 0 <= rho < 1; epsilon > 0.

    Source:
        Tieleman and Hinton 2012, lecture 6.5; Graves 2013, arXiv:1308.0850, for the centered form.

    Example:
        >>> ScaleByRMSProp(0.99).get_config()
        {'rho': 0.99, 'epsilon': 1e-08, 'centered': False}
    """

    def __init__(self, rho=0.9, epsilon=1e-8, centered=False):
        owner = type(self).__name__
        expect_rate(owner, rho=rho)
        expect_number(owner, epsilon=epsilon)
        expect(epsilon > 0, owner, "epsilon > 0", epsilon=epsilon)
        self.rho, self.epsilon, self.centered = float(rho), float(epsilon), bool(centered)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {"square": (shape, 0.0), **({"mean": (shape, 0.0)} if self.centered else {})}

    def update(self, gradients, state, now):
        """Divide the gradients."""
        rho = self.rho
        spread = state["square"] = [
            rho * v + (1 - rho) * ops.square(g) for v, g in zip(state["square"], gradients, strict=True)
        ]
        if self.centered:
            state["mean"] = [rho * m + (1 - rho) * g for m, g in zip(state["mean"], gradients, strict=True)]
            spread = [ops.maximum(v - ops.square(m), 0) for v, m in zip(spread, state["mean"], strict=True)]
        now.scales = [1 / (ops.sqrt(v) + self.epsilon) for v in spread]
        return [g * scale for g, scale in zip(gradients, now.scales, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        return {"rho": self.rho, "epsilon": self.epsilon, "centered": self.centered}
