"""Quantile regression."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number


@keras.saving.register_keras_serializable(package="keras_kicks")
class Pinball(keras.losses.Loss):
    """Loss whose minimum is a quantile of the targets, or several of them.

        loss = max(q (y - f), (q - 1) (y - f)),    the mean over the quantiles q and the targets

    A value f that too many targets exceed costs q for each unit below them, one that too few exceed 1 - q. The loss
    is the negative log-likelihood of an asymmetric Laplace distribution of scale 1, but for -log(q (1 - q)): see
    `constant`. With several quantiles nothing keeps their order: sort the predictions where they must not cross.

    Args:
        quantiles: A number in (0, 1), or a list of them.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`; float32 where that is narrower.

    Call arguments:
        y_true: For one quantile, the shape of `y_pred`. For a list, (..., 1), or the shape of `y_pred` without its
            last axis.
        y_pred: For one quantile, any shape of rank 2 or more; for a list, (..., quantiles).
        sample_weight: As in `keras.losses.Loss`.

    Returns:
        Scalar, or the loss of each sample for reduction=None.

    Raises:
        TypeError: a quantile is no number.
        ValueError: expected one quantile or more; 0 < quantiles < 1; targets of the shape of the predictions, or
            without the axis of the quantiles.

    Masking:
        The mask of `y_pred` excludes its samples.

    Source:
        Koenker and Bassett 1978, "Regression Quantiles". TensorFlow Addons' `PinballLoss` takes one quantile.

    Example:
        >>> import numpy as np
        >>> loss = Pinball([0.1, 0.5, 0.9])
        >>> round(float(loss(np.array([[2.0]]), np.array([[1.0, 2.0, 3.0]]))), 4)  # (0.1 + 0 + 0.1) / 3
        0.0667
    """

    def __init__(self, quantiles=0.5, reduction="sum_over_batch_size", name="pinball", dtype=None):
        owner = type(self).__name__
        several = isinstance(quantiles, list | tuple)
        values = list(quantiles) if several else [quantiles]
        expect(len(values) > 0, owner, "one quantile or more", quantiles=quantiles)
        for value in values:
            expect_number(owner, quantiles=value)
            expect(0 < value < 1, owner, "0 < quantiles < 1", quantiles=value)
        dtype = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype
        super().__init__(name=name, reduction=reduction, dtype=keras.backend.result_type(dtype, "float32"))
        self.quantiles = [float(value) for value in values] if several else float(quantiles)

    @property
    def constant(self):
        """Mean negative log-likelihood of the asymmetric Laplace distribution less the loss, in nats."""
        values = self.quantiles if isinstance(self.quantiles, list) else [self.quantiles]
        return -sum(math.log(q * (1 - q)) for q in values) / len(values)

    def call(self, y_true, y_pred):
        """Return the loss of each sample."""
        several = isinstance(self.quantiles, list)
        if len(y_true.shape) == len(y_pred.shape) - 1 and (several or y_pred.shape[-1] == 1):
            y_true = ops.expand_dims(y_true, axis=-1)
        self._check(tuple(y_true.shape), tuple(y_pred.shape), several)
        quantiles = ops.convert_to_tensor(self.quantiles, dtype=y_pred.dtype)
        above = y_true - y_pred
        return ops.mean(ops.maximum(quantiles * above, (quantiles - 1) * above), axis=-1)

    def _check(self, true, predicted, several):
        fits = len(true) == len(predicted) >= 2
        if fits and several:
            fits = predicted[-1] == len(self.quantiles) and true[-1] == 1
        elif fits:
            fits = None in (true[-1], predicted[-1]) or true[-1] == predicted[-1]
        expect(
            fits,
            type(self).__name__,
            "targets of the shape of the predictions, or without the axis of the quantiles",
            "Let the last layer have a unit for each quantile." if several else "",
            quantiles=self.quantiles,
            y_true=true,
            y_pred=predicted,
        )

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "quantiles": self.quantiles, "dtype": self.dtype}
