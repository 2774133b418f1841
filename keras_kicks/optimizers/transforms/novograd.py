"""NovoGrad: normalized gradients of layers."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number, expect_rate
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByNovoGrad(Transform):
    """Divides the gradient of each variable by the running average of its norm, then applies momentum.

        v <- beta_2 v + (1 - beta_2) |g|^2,  in the first step v = |g|^2
        m <- beta_1 m + (g / (sqrt(v) + epsilon) + inner_weight_decay w)
        u = m

    Args:
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        inner_weight_decay: d of the equation, >= 0.
        grad_averaging: Whether what is added to m is multiplied with 1 - beta_1.

    Returns:
        A transform for `Chain`. It remembers "mean" and, one number for each variable, "square".

    Raises:
        TypeError: a number is none.
        ValueError: expected rates in [0, 1); epsilon > 0; inner_weight_decay >= 0.

    Source:
        Ginsburg, Castonguay, Hrinchuk, Kuchaiev, Lavrukhin, Leary, Li, Nguyen, Zhang and Cohen 2019, arXiv:1905.11286,
        algorithm 1.

    Example:
        >>> ScaleByNovoGrad().beta_1
        0.95
    """

    elementwise = False

    def __init__(self, beta_1=0.95, beta_2=0.98, epsilon=1e-8, inner_weight_decay=0.0, grad_averaging=False):
        owner = type(self).__name__
        expect_rate(owner, beta_1=beta_1, beta_2=beta_2)
        expect_number(owner, epsilon=epsilon, inner_weight_decay=inner_weight_decay)
        expect(epsilon > 0, owner, "epsilon > 0", epsilon=epsilon)
        expect(inner_weight_decay >= 0, owner, "inner_weight_decay >= 0", inner_weight_decay=inner_weight_decay)
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)
        self.inner_weight_decay, self.grad_averaging = float(inner_weight_decay), bool(grad_averaging)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {"mean": (shape, 0.0), "square": ((), 0.0)}

    def update(self, gradients, state, now):
        """Normalize the gradients and sum them."""
        b, first = self.beta_2, ops.equal(now.number, 1)
        squares = [ops.sum(ops.square(g)) for g in gradients]
        state["square"] = [
            ops.where(first, s, b * v + (1 - b) * s) for v, s in zip(state["square"], squares, strict=True)
        ]
        share = 1 - self.beta_1 if self.grad_averaging else 1.0
        state["mean"] = [
            self.beta_1 * m + share * (g / (ops.sqrt(v) + self.epsilon) + self.inner_weight_decay * w)
            for m, g, v, w in zip(state["mean"], gradients, state["square"], now.values, strict=True)
        ]
        return state["mean"], state

    def get_config(self):
        """Return the constructor arguments."""
        return {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "inner_weight_decay": self.inner_weight_decay,
            "grad_averaging": self.grad_averaging,
        }
