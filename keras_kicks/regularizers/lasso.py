"""The notes' lasso, ridge and elastic net penalties."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_number
from keras_kicks.ops.norms import lp_norm, squared_norm
from keras_kicks.regularizers.lp import Lp, checked_weight


@keras.saving.register_keras_serializable(package="keras_kicks")
class Lasso(Lp):
    """The penalty of lasso regression: weight * sum |w|.

    Its minimum has zeros, but descent along its gradient only comes near them. Exact zeros are made by the proximal
    step, `keras_kicks.optimizers.Proximal(l1=weight)` in a chain, or by a bound, `keras_kicks.constraints.L1Ball`,
    instead of this.

    Args:
        weight: Factor, >= 0.

    Call arguments:
        x: Weight of any shape and floating dtype.

    Returns:
        A scalar.

    Raises:
        TypeError: weight is no number.
        ValueError: expected a finite weight >= 0.

    Source:
        Tibshirani 1996; the notes' lasso regression.

    Example:
        >>> from keras_kicks.regularizers import Lasso
        >>> float(Lasso(0.5)(keras.ops.convert_to_tensor([3.0, -4.0])))
        3.5
    """

    def __init__(self, weight=0.01):
        super().__init__(1.0, weight)

    def get_config(self):
        """Return the constructor arguments."""
        return {"weight": self.weight}


@keras.saving.register_keras_serializable(package="keras_kicks")
class Ridge(Lp):
    """The penalty of ridge regression: weight * sqrt(sum w^2), or weight * sum w^2.

    The first is the notes' formula. It pulls with the same force however small the weights are, and can make a whole
    tensor 0, exactly with the proximal step `keras_kicks.optimizers.Proximal(l2_norm=weight)` instead of this; the
    second is that of ridge regression elsewhere, and `keras.regularizers.L2`.

    Args:
        weight: Factor, >= 0.
        squared: Whether to take the square.

    Call arguments:
        x: Weight of any shape and floating dtype.

    Returns:
        A scalar.

    Raises:
        TypeError: weight is no number.
        ValueError: expected a finite weight >= 0.

    Source:
        Hoerl and Kennard 1970 (squared); the notes' ridge regression (not).

    Example:
        >>> from keras_kicks.regularizers import Ridge
        >>> x = keras.ops.convert_to_tensor([3.0, -4.0])
        >>> float(Ridge(0.5)(x)), float(Ridge(0.5, squared=True)(x))
        (2.5, 12.5)
    """

    def __init__(self, weight=0.01, squared=False):
        super().__init__(2.0, weight, squared)

    def get_config(self):
        """Return the constructor arguments."""
        return {"weight": self.weight, "squared": self.squared}


@keras.saving.register_keras_serializable(package="keras_kicks")
class ElasticNet(keras.regularizers.Regularizer):
    """A mixture of the lasso's and the ridge's penalty.

        weight (l1_ratio sum |w| + (1 - l1_ratio) / 2 sqrt(sum w^2))    for form="notes"
        weight (l1_ratio sum |w| + (1 - l1_ratio) / 2 sum w^2)          for form="scikit-learn"

    Exact zeros are made by the proximal step, instead of this: in a chain, with a for the weight and m for the ratio,
    `keras_kicks.optimizers.Proximal(l1=a m, l2_norm=a (1 - m) / 2)`, or `Proximal(l1=a m, l2=a (1 - m))` for
    scikit-learn's form.

    Args:
        weight: Factor, >= 0: the notes' alpha, scikit-learn's `alpha`.
        l1_ratio: Share of the lasso, in [0, 1]: the notes' lambda, scikit-learn's `l1_ratio`.
        form: "notes" or "scikit-learn".

    Call arguments:
        x: Weight of any shape and floating dtype.

    Returns:
        A scalar.

    Raises:
        TypeError: a number is none.
        ValueError: expected a finite weight >= 0; 0 <= l1_ratio <= 1; form to be one of the two.

    Source:
        Zou and Hastie 2005; the notes' elastic net; `sklearn.linear_model.ElasticNet`, whose data term is half of a
        mean square.

    Example:
        >>> from keras_kicks.regularizers import ElasticNet
        >>> x = keras.ops.convert_to_tensor([3.0, -4.0])
        >>> float(ElasticNet(1.0, 0.5)(x)), float(ElasticNet(1.0, 0.5, form="scikit-learn")(x))
        (4.75, 9.75)
    """

    def __init__(self, weight=0.01, l1_ratio=0.5, form="notes"):
        owner = type(self).__name__
        self.weight = checked_weight(owner, weight)
        expect_number(owner, l1_ratio=l1_ratio)
        expect(0 <= l1_ratio <= 1, owner, "0 <= l1_ratio <= 1", l1_ratio=l1_ratio)
        expect_choice(owner, ("notes", "scikit-learn"), form=form)
        self.l1_ratio, self.form = float(l1_ratio), form

    def __call__(self, x):
        """Return the penalty."""
        l1, l2 = lp_norm(x, 1), (lp_norm if self.form == "notes" else squared_norm)(x, 2)
        return ops.cast(self.weight, l1.dtype) * (self.l1_ratio * l1 + (1 - self.l1_ratio) / 2 * l2)

    def get_config(self):
        """Return the constructor arguments."""
        return {"weight": self.weight, "l1_ratio": self.l1_ratio, "form": self.form}
