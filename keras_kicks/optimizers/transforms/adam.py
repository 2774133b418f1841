"""Adam's direction and step size, and its relatives."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number, expect_rate
from keras_kicks.optimizers.transforms.transform import Transform


class Moments(Transform):
    """Base class of those that divide an average of gradients by the root of another average."""

    def __init__(self, beta_1, beta_2, epsilon):
        owner = type(self).__name__
        expect_rate(owner, beta_1=beta_1, beta_2=beta_2)
        expect_number(owner, epsilon=epsilon)
        expect(epsilon > 0, owner, "epsilon > 0", epsilon=epsilon)
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {"mean": (shape, 0.0), "square": (shape, 0.0)}

    def averaged(self, state, gradients):
        """Return the new running averages of the gradients."""
        return [self.beta_1 * m + (1 - self.beta_1) * g for m, g in zip(state["mean"], gradients, strict=True)]

    def missing(self, now):
        """Return 1 - beta^t of both averages: what they lack of the weight of one."""
        return 1 - ops.power(self.beta_1, now.number), 1 - ops.power(self.beta_2, now.number)

    def get_config(self):
        """Return the constructor arguments."""
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByAdam(Moments):
    """Divides the running average of gradients by the root of that of their squares.

        m <- beta_1 m + (1 - beta_1) g
        v <- beta_2 v + (1 - beta_2) g^2
        m' = m / (1 - beta_1^t),  v' = v / (1 - beta_2^t)
        u = m' / (sqrt(v') + epsilon)

    or, with `epsilon_hat`, in the order that needs less arithmetic,

        u = sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    The two differ in what epsilon is compared with: sqrt(v') or sqrt(v).

    Args:
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        bias_correction: Whether to correct for m and v starting with zero; without it m' = m and v' = v.
        epsilon_hat: Whether to use the second form, which `keras.optimizers.Adam` has.
        amsgrad: Whether v' is the greatest so far.

    Returns:
        A transform for `Chain`. It remembers "mean" and "square" for each variable, and "greatest" with `amsgrad`.

    Raises:
        TypeError: a number is none.
        ValueError: expected rates in [0, 1); epsilon > 0.

    Source:
        Kingma and Ba 2015, arXiv:1412.6980, algorithm 1 and the end of section 2; Reddi, Kale and Kumar 2018,
        arXiv:1904.09237, for `amsgrad`. Departure: with `amsgrad` the average is corrected too, after the maximum, as
        in Keras and torch.

    Example:
        >>> ScaleByAdam(epsilon=1e-7).epsilon
        1e-07
    """

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-8, bias_correction=True, epsilon_hat=False, amsgrad=False):
        super().__init__(beta_1, beta_2, epsilon)
        self.bias_correction, self.epsilon_hat = bool(bias_correction), bool(epsilon_hat)
        self.amsgrad = bool(amsgrad)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {**super().slots(shape), **({"greatest": (shape, 0.0)} if self.amsgrad else {})}

    def update(self, gradients, state, now):
        """Divide the averages."""
        mean = state["mean"] = self.averaged(state, gradients)
        square = state["square"] = [
            self.beta_2 * v + (1 - self.beta_2) * ops.square(g) for v, g in zip(state["square"], gradients, strict=True)
        ]
        if self.amsgrad:
            square = state["greatest"] = [ops.maximum(a, v) for a, v in zip(state["greatest"], square, strict=True)]
        before, root, epsilon = 1.0, 1.0, self.epsilon
        if self.bias_correction:
            missing_1, missing_2 = self.missing(now)
            before, root = 1 / missing_1, ops.sqrt(missing_2)
        # Both forms as a factor before the division, for fewer operations on whole tensors: with s the factor `root`,
        # m' / (sqrt(v) / s + epsilon) = s m' / (sqrt(v) + s epsilon).
        epsilon = epsilon if self.epsilon_hat else epsilon * root
        now.scales = [_like(root, v) / (ops.sqrt(v) + _like(epsilon, v)) for v in square]
        return [_like(before, m) * m * scale for m, scale in zip(mean, now.scales, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        own = {"bias_correction": self.bias_correction, "epsilon_hat": self.epsilon_hat, "amsgrad": self.amsgrad}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByRectifiedAdam(Moments):
    """Adam that uses its step sizes only when enough gradients were seen to know them.

        m and v as in Adam
        rho = 2 / (1 - beta_2) - 1,  rho_t = rho - 2 t beta_2^t / (1 - beta_2^t)
        u = r m' / (sqrt(v') + epsilon)  where rho_t > threshold, else m'
        r^2 = (rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)

    Args:
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of v that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.
        threshold: At least 4. The paper has 4; TensorFlow Addons and torch have 5.

    Returns:
        A transform for `Chain`. It remembers "mean" and "square" for each variable.

    Raises:
        TypeError: a number is none.
        ValueError: expected rates in [0, 1); epsilon > 0; threshold >= 4; beta_2 > 0.6, below which rho <= 4.

    Source:
        Liu, Jiang, He, Chen, Liu, Gao and Han 2020, arXiv:1908.03265, algorithm 2.

    Example:
        >>> ScaleByRectifiedAdam(threshold=5.0).threshold
        5.0
    """

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-8, threshold=4.0):
        super().__init__(beta_1, beta_2, epsilon)
        owner = type(self).__name__
        expect_number(owner, threshold=threshold)
        expect(threshold >= 4, owner, "threshold >= 4", threshold=threshold)
        expect(beta_2 > 0.6, owner, "beta_2 > 0.6, below which rho <= 4", beta_2=beta_2)
        self.threshold = float(threshold)

    def update(self, gradients, state, now):
        """Divide the averages, where they are known."""
        state["mean"] = self.averaged(state, gradients)
        state["square"] = [
            self.beta_2 * v + (1 - self.beta_2) * ops.square(g) for v, g in zip(state["square"], gradients, strict=True)
        ]
        missing_1, missing_2 = self.missing(now)
        rho = 2 / (1 - self.beta_2) - 1
        rho_t = rho - 2 * now.number * ops.power(self.beta_2, now.number) / missing_2
        known = rho_t > self.threshold
        safe = ops.where(known, rho_t, 5.0)
        r = ops.sqrt((safe - 4) * (safe - 2) * rho / ((rho - 4) * (rho - 2) * safe))
        root = ops.sqrt(missing_2)
        now.scales = [
            ops.where(known, _like(r * root, v) / (ops.sqrt(v) + _like(self.epsilon * root, v)), _like(1.0, v))
            for v in state["square"]
        ]
        return [m * scale / _like(missing_1, m) for m, scale in zip(state["mean"], now.scales, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByAdaBelief(Moments):
    """Adam that divides by how far gradients are from their average.

        m <- beta_1 m + (1 - beta_1) g
        s <- beta_2 s + (1 - beta_2) (g - m)^2 + epsilon
        u = m / (1 - beta_1^t) / (sqrt(s / (1 - beta_2^t)) + epsilon)

    Args:
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: Share of s that is kept, in [0, 1).
        epsilon: Against division by zero, > 0.

    Returns:
        A transform for `Chain`. It remembers "mean" (m) and "square" (s) for each variable.

    Raises:
        TypeError: a number is none.
        ValueError: expected rates in [0, 1); epsilon > 0.

    Source:
        Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris and Duncan 2020, arXiv:2010.07468, algorithm 2.

    Example:
        >>> ScaleByAdaBelief().epsilon
        1e-16
    """

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-16):
        super().__init__(beta_1, beta_2, epsilon)

    def update(self, gradients, state, now):
        """Divide the averages."""
        b, mean = self.beta_2, self.averaged(state, gradients)
        state["mean"] = mean
        state["square"] = [
            b * s + (1 - b) * ops.square(g - m) + self.epsilon
            for s, g, m in zip(state["square"], gradients, mean, strict=True)
        ]
        missing_1, missing_2 = self.missing(now)
        root = ops.sqrt(missing_2)
        now.scales = [1 / (ops.sqrt(s) / _like(root, s) + self.epsilon) for s in state["square"]]
        return [m / _like(missing_1, m) * scale for m, scale in zip(mean, now.scales, strict=True)], state


@keras.saving.register_keras_serializable(package="keras_kicks")
class ScaleByYogi(Moments):
    """Adam whose second average changes by no more than the square of a gradient.

        m <- beta_1 m + (1 - beta_1) g
        v <- v - (1 - beta_2) sign(v - g^2) g^2
        u = m / (sqrt(v) + epsilon), with `bias_correction` times sqrt(1 - beta_2^t) / (1 - beta_1^t)

    Args:
        beta_1: Share of m that is kept, in [0, 1).
        beta_2: As in the equation, in [0, 1).
        epsilon: Against division by zero, > 0.
        initial_accumulator: What v starts with, >= 0.
        bias_correction: Whether to correct as Adam does, as TensorFlow Addons did. The paper does not.

    Returns:
        A transform for `Chain`. It remembers "mean" and "square" for each variable.

    Raises:
        TypeError: a number is none.
        ValueError: expected rates in [0, 1); epsilon > 0; initial_accumulator >= 0.

    Source:
        Zaheer, Reddi, Sachan, Kale and Kumar 2018, "Adaptive methods for nonconvex optimization", algorithm 2.

    Example:
        >>> ScaleByYogi().initial_accumulator
        1e-06
    """

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-3, initial_accumulator=1e-6, bias_correction=True):
        super().__init__(beta_1, beta_2, epsilon)
        owner = type(self).__name__
        expect_number(owner, initial_accumulator=initial_accumulator)
        expect(initial_accumulator >= 0, owner, "initial_accumulator >= 0", initial_accumulator=initial_accumulator)
        self.initial_accumulator, self.bias_correction = float(initial_accumulator), bool(bias_correction)

    def slots(self, shape):
        """Return what is remembered for a variable."""
        return {"mean": (shape, 0.0), "square": (shape, self.initial_accumulator)}

    def update(self, gradients, state, now):
        """Divide the averages."""
        state["mean"] = self.averaged(state, gradients)
        squares = [ops.square(g) for g in gradients]
        state["square"] = [
            v - (1 - self.beta_2) * ops.sign(v - s) * s for v, s in zip(state["square"], squares, strict=True)
        ]
        factor = 1.0
        if self.bias_correction:
            missing_1, missing_2 = self.missing(now)
            factor = ops.sqrt(missing_2) / missing_1
        now.scales = [_like(factor, v) / (ops.sqrt(v) + self.epsilon) for v in state["square"]]
        return [m * scale for m, scale in zip(state["mean"], now.scales, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        own = {"initial_accumulator": self.initial_accumulator, "bias_correction": self.bias_correction}
        return {**super().get_config(), **own}


def _like(x, tensor):
    """A number or scalar in the dtype of a tensor."""
    return ops.cast(x, tensor.dtype)
