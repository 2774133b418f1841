"""Metrics of the mean of a predicted Gaussian."""

import keras
from keras import ops

from keras_kicks._errors import expect


@keras.saving.register_keras_serializable(package="keras_kicks")
class GaussianMean(keras.metrics.Metric):
    """Gives a metric the means alone, where predictions hold means and variances.

    Args:
        metric: A metric of targets and predictions of one shape, such as `keras.metrics.RootMeanSquaredError()`.
        name: Name of the metric; that of `metric` by default.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: Shape (..., size), or (...) for size 1.
        y_pred: Shape (..., 2 size): what `layers.OutputHead("regression", size)` returns.
        sample_weight: What `metric` takes.

    Returns:
        The result of `metric`.

    Raises:
        TypeError: expected metric to be a keras.metrics.Metric.

    Source:
        The layout of `losses.GaussianNLL`.

    Example:
        >>> import numpy as np
        >>> metric = GaussianMean(keras.metrics.MeanAbsoluteError())
        >>> metric.update_state(np.array([[1.0]]), np.array([[3.0, 0.7]]))
        >>> float(metric.result())
        2.0
    """

    def __init__(self, metric, name=None, dtype=None):
        is_metric = isinstance(metric, keras.metrics.Metric)
        expect(is_metric, type(self).__name__, "metric to be a keras.metrics.Metric", error=TypeError, metric=metric)
        super().__init__(name=name or metric.name, dtype=dtype)
        self.metric = metric

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch."""
        y_pred = ops.convert_to_tensor(y_pred)
        size = y_pred.shape[-1] // 2
        y_true = ops.convert_to_tensor(y_true)
        if size == 1 and len(y_true.shape) < len(y_pred.shape):
            y_true = ops.expand_dims(y_true, axis=-1)
        return self.metric.update_state(y_true, y_pred[..., :size], sample_weight)

    def result(self):
        """Return the metric of all batches since the last reset."""
        return self.metric.result()

    def reset_state(self):
        """Forget all batches."""
        self.metric.reset_state()

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "metric": keras.saving.serialize_keras_object(self.metric)}

    @classmethod
    def from_config(cls, config):
        """Return a new metric."""
        return cls(**{**config, "metric": keras.saving.deserialize_keras_object(config["metric"])})
