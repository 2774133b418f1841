"""AdaGrad's step size for each weight."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByAdaGrad(Transform):
    """Divides gradients by the root of the sum of their squares so far.

        G <- G + g^2
        u = g / (sqrt(G) + epsilon)

    Args:
        initial_accumulator: What G starts with, >= 0.
        epsilon: Against division by zero, > 0.

    Returns:
        A transform for `Chain`. It remembers "accumulator" for each variable.

    Raises:
        TypeError: a number is none.
        ValueError: expected initial_accumulator >= 0; epsilon > 0.

    Source:
        Duchi, Hazan and Singer 2011. `keras.optimizers.Adagrad` starts G with 0.1, the paper with 0.

    Example:
        >>> ScaleByAdaGrad().get_config()
        {'initial_accumulator': 0.0, 'epsilon': 1e-10}
    """

    def __init__(self, initial_accumulator=0.0, epsilon=1e-10):
        owner = type(self).__name__
        expect_number(owner, initial_accumulator=initial_accumulator, epsilon=epsilon)
        expect(initial_accumulator >= 0, owner, "initial_accumulator >= 0", initial_accumulator=initial_accumulator)
        expect(epsilon > 0, owner, "epsilon > 0", epsilon=epsilon)
        self.initial_accumulator, self.epsilon = float(initial_accumulator), float(epsilon)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {"accumulator": (shape, self.initial_accumulator)}

    def update(self, gradients, state, now):
        """Divide the gradients."""
        state["accumulator"] = [a + ops.square(g) for a, g in zip(state["accumulator"], gradients, strict=True)]
        now.scales = [1 / (ops.sqrt(a) + self.epsilon) for a in state["accumulator"]]
        return [g * scale for g, scale in zip(gradients, now.scales, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        return {"initial_accumulator": self.initial_accumulator, "epsilon": self.epsilon}
