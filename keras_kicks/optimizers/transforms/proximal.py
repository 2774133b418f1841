"""The proximal step of norm penalties."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.ops.norm_prox import norm_prox
from keras_kicks.optimizers.transforms.transform import Transform, checked_paths


@keras.saving.register_keras_serializable(package="keras_kicks")
class Proximal(Transform):
    """Solves for a penalty exactly after each step, so that weights become zero and stay it.

    With r the step size of a weight, which is the learning rate, times what the transforms of the chain divide its
    gradient by,

        w <- sign(w) max(|w| - r l1, 0) / (1 + r l2)

    which is the least of |w - x|^2 / (2 r) + l1 |w| + l2 w^2 / 2, for the result x of the step. With a gradient that
    vanishes where the loss is least, the chain ends where loss + l1 |w| + l2 w^2 / 2 is least. It works on the step
    as a whole, wherever in the chain it is. With `l2_norm`, l2_norm sqrt(sum w^2) is added to what is least, which
    makes all of a variable zero, or none of it by itself:

        w <- w n / (n + r l2_norm / (1 + r l2)),   n = sqrt(sum w^2) of the result

    In the words of `keras_kicks.regularizers`, Lasso(a) is Proximal(l1=a); Ridge(a) is Proximal(l2_norm=a), squared
    Proximal(l2=2 a); ElasticNet(a, m) is Proximal(l1=a m, l2_norm=a (1 - m) / 2), in scikit-learn's form
    Proximal(l1=a m, l2=a (1 - m)).

    Args:
        l1: Weight of the sum of absolute values, >= 0.
        l2: Weight of half the sum of squares, >= 0.
        exclude: List of strings; variables with any of them in their path are left alone, such as "bias".
        l2_norm: Weight of the Euclidean norm of each variable, not squared, >= 0.

    Returns:
        A transform for `Chain`, which remembers nothing.

    Raises:
        TypeError: a number is none; `exclude` is no list of strings.
        ValueError: expected l1 >= 0; l2 >= 0; l2_norm >= 0.

    Source:
        Duchi and Singer 2009, "Efficient online and batch learning using forward backward splitting"; Beck and
        Teboulle 2009 (ISTA); Yuan and Lin 2006 (the norm, as the group lasso). The L1 regularizer of Keras is a
        subgradient, with which no weight becomes zero.

    Example:
        >>> Proximal(0.1).get_config()
        {'l1': 0.1, 'l2': 0.0, 'exclude': [], 'l2_norm': 0.0}
    """

    def __init__(self, l1=0.0, l2=0.0, exclude=(), l2_norm=0.0):
        owner = type(self).__name__
        expect_number(owner, l1=l1, l2=l2, l2_norm=l2_norm)
        expect(l1 >= 0, owner, "l1 >= 0", l1=l1)
        expect(l2 >= 0, owner, "l2 >= 0", l2=l2)
        expect(l2_norm >= 0, owner, "l2_norm >= 0", l2_norm=l2_norm)
        self.l1, self.l2, self.l2_norm = float(l1), float(l2), float(l2_norm)
        self.exclude = checked_paths(owner, exclude)

    def finish(self, values, now):
        """Shrink the weights."""
        scales = now.scales or [1.0] * len(values)
        return [
            self._shrunk(w, ops.cast(now.learning_rate, w.dtype) * scale) if chosen else w
            for w, scale, chosen in zip(values, scales, now.chosen(self.exclude), strict=True)
        ]

    def _shrunk(self, w, rate):
        w, damping = ops.sign(w) * ops.maximum(ops.abs(w) - rate * self.l1, 0), 1 + rate * self.l2
        return norm_prox(w, rate * self.l2_norm, damping) if self.l2_norm else w / damping

    @property
    def elementwise(self):
        """Whether no variable is told from another."""
        return not (self.exclude or self.l2_norm)

    def get_config(self):
        """Return the constructor arguments."""
        return {"l1": self.l1, "l2": self.l2, "exclude": self.exclude, "l2_norm": self.l2_norm}
