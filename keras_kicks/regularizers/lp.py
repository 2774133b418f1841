"""Norm penalties."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.ops.norms import lp_norm, squared_norm


@keras.saving.register_keras_serializable(package="keras_kicks")
class Lp(keras.regularizers.Regularizer):
    """A penalty on the Lp norm of a weight.

        weight (sum |w|^p)^(1 / p),    weight max |w| for p = inf,

    over all elements, or the square of the norm. For p < 1 it is no norm, but the same formula. Gradients are finite at
    zero: an element that is 0 gets 0, where the slope of |w|^p would be infinite or have no one direction.

    Args:
        p: The order, > 0; `math.inf` for the largest magnitude.
        weight: Factor, >= 0.
        squared: Whether to square the norm, as ridge regression does.

    Call arguments:
        x: Weight of any shape and floating dtype.

    Returns:
        A scalar in the dtype of the weight.

    Raises:
        TypeError: p or weight is no number.
        ValueError: expected p > 0; a finite weight >= 0.

    Source:
        The notes' norm penalty. Keras's `L1` is p = 1; its `L2` is p = 2, squared.

    Example:
        >>> from keras_kicks.regularizers import Lp
        >>> [round(float(Lp(p, 1.0)(keras.ops.convert_to_tensor([3.0, -4.0]))), 4) for p in (1, 2, math.inf)]
        [7.0, 5.0, 4.0]
    """

    def __init__(self, p=2.0, weight=0.01, squared=False):
        owner = type(self).__name__
        p = math.inf if p == "inf" else p  # As in a config.
        if p != math.inf:
            expect_number(owner, "Pass math.inf for the largest magnitude.", p=p)
        expect(p > 0, owner, "p > 0", "For the number of weights that are not 0, prune.", p=p)
        self.p, self.weight, self.squared = float(p), checked_weight(owner, weight), bool(squared)

    def __call__(self, x):
        """Return the penalty."""
        value = (squared_norm if self.squared else lp_norm)(x, self.p)
        return ops.cast(self.weight, value.dtype) * value

    def get_config(self):
        """Return the constructor arguments; infinity as a string, since JSON has none."""
        return {"p": "inf" if self.p == math.inf else self.p, "weight": self.weight, "squared": self.squared}


def checked_weight(owner, weight):
    """Return the weight of a penalty as a float."""
    expect_number(owner, weight=weight)
    expect(weight >= 0, owner, "weight >= 0", weight=weight)
    return float(weight)
