"""Negative log-likelihood of a Gaussian whose mean and variance are predicted."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_number
from keras_kicks.ops.gaussian import FORMS, LOG_2_PI, gaussian_parameters


@keras.saving.register_keras_serializable(package="keras_kicks")
class GaussianNLL(keras.losses.Loss):
    """Negative log-likelihood of a Gaussian with a mean and a variance for each target.

        loss = mean over targets of (log v + (y - m)^2 / v) / 2  [+ log(2 pi) / 2 with full=True]
        v = log(1 + exp(r)) + min_variance,    or exp(r) + min_variance for variance="log"

    where the predictions hold the means m and then the r, one of each for every target. With full=True the loss
    times the number of targets is the negative log-likelihood in nats; else it lacks log(2 pi) / 2 for each.

    Where the mean is still wrong, the variance grows and then slows the mean down, since its gradient is divided by
    v. With beta > 0 each target's loss is multiplied by v^beta, through which no gradient flows: at beta = 1 the
    mean learns as with the squared error. The value is then no likelihood.

    Args:
        variance: "softplus" or "log": how the variance is made of the second half of the predictions.
        min_variance: Least variance, > 0, in squared units of the targets.
        full: Whether to add the constant.
        beta: Exponent of the weight, in [0, 1].
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`; float32 where that is narrower.

    Call arguments:
        y_true: Shape (..., size), or (...) for size 1.
        y_pred: Shape (..., 2 size): what `layers.OutputHead("regression", size)` returns.
        sample_weight: As in `keras.losses.Loss`.

    Returns:
        Scalar, or the loss of each sample for reduction=None.

    Raises:
        TypeError: min_variance or beta is no number.
        ValueError: expected variance to be one of the two; min_variance > 0; 0 <= beta <= 1; predictions with a mean
            and a variance for each target.

    Masking:
        The mask of `y_pred` excludes its samples.

    Source:
        Nix and Weigend 1994; beta: Seitzer, Tavakoli, Antic and Martius 2022, arXiv:2203.09168.

    Example:
        >>> import numpy as np
        >>> loss = GaussianNLL(variance="log", full=True)
        >>> round(float(loss(np.array([[1.0]]), np.array([[0.0, 0.0]]))), 4)  # (log 2 pi + 1) / 2
        1.4189
    """

    def __init__(
        self,
        variance="softplus",
        min_variance=1e-6,
        full=False,
        beta=0.0,
        reduction="sum_over_batch_size",
        name="gaussian_nll",
        dtype=None,
    ):
        owner = type(self).__name__
        expect_choice(owner, FORMS, variance=variance)
        expect_number(owner, min_variance=min_variance, beta=beta)
        expect(min_variance > 0, owner, "min_variance > 0", min_variance=min_variance)
        expect(0 <= beta <= 1, owner, "0 <= beta <= 1", beta=beta)
        dtype = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype
        super().__init__(name=name, reduction=reduction, dtype=keras.backend.result_type(dtype, "float32"))
        self.variance, self.min_variance = variance, float(min_variance)
        self.full, self.beta = bool(full), float(beta)

    def call(self, y_true, y_pred):
        """Return the loss of each sample."""
        y_true = with_target_axis(type(self).__name__, y_true, y_pred)
        mean, variance = gaussian_parameters(y_pred, self.variance, self.min_variance)
        loss = (ops.log(variance) + ops.square(y_true - mean) / variance) / 2
        if self.full:
            loss = loss + LOG_2_PI / 2
        if self.beta:
            loss = loss * ops.stop_gradient(ops.power(variance, self.beta))
        return ops.mean(loss, axis=-1)

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "variance": self.variance,
            "min_variance": self.min_variance,
            "full": self.full,
            "beta": self.beta,
            "dtype": self.dtype,
        }
        return {**super().get_config(), **config}


def with_target_axis(owner, y_true, y_pred):
    """Return targets of half the width of the predictions, with an axis of 1 added where there is but one target."""
    width = y_pred.shape[-1] if len(y_pred.shape) > 0 else None
    if len(y_true.shape) == len(y_pred.shape) - 1 and width == 2:
        y_true = ops.expand_dims(y_true, axis=-1)
    fits = len(y_true.shape) == len(y_pred.shape) and (
        None in (width, y_true.shape[-1]) or width == 2 * y_true.shape[-1]
    )
    expect(
        fits,
        owner,
        "predictions with a mean and a variance for each target",
        "Let the last layer have twice as many units as there are targets.",
        y_true=tuple(y_true.shape),
        y_pred=tuple(y_pred.shape),
    )
    return y_true
