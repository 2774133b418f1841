"""What a task asks of the last layer: its width, loss, metrics, activation and likelihood."""

import math

import keras
from keras import ops

from keras_kicks.losses.gaussian_nll import GaussianNLL
from keras_kicks.metrics.gaussian_mean import GaussianMean
from keras_kicks.ops.class_ids import check_class_ids
from keras_kicks.ops.gaussian import LOG_2_PI, gaussian_parameters
from keras_kicks.ops.smoothed_crossentropy import smoothed_crossentropy


class Task:
    """A task with `size` targets, classes or labels.

    Args:
        head: The `OutputHead`.

    Attributes:
        width: Units of the last layer.
        kind: Its name in `compile_check.TASKS`.
        factor, constant: The mean negative log-likelihood in nats is factor * loss + constant.
    """

    factor, constant = 1.0, 0.0

    def __init__(self, head):
        self.head, self.size = head, head.size
        self.width = head.size


class FixedVarianceRegression(Task):
    """Targets with Gaussian noise of a known variance: the squared error."""

    kind = "regression, fixed variance"

    def __init__(self, head):
        super().__init__(head)
        self.factor = self.size / (2 * head.variance)
        self.constant = self.size / 2 * (LOG_2_PI + math.log(head.variance))

    def loss(self):
        """Return the loss."""
        return keras.losses.MeanSquaredError()

    def metrics(self):
        """Return new metrics."""
        return [keras.metrics.RootMeanSquaredError(name="rmse"), keras.metrics.MeanAbsoluteError(name="mae")]

    def activate(self, outputs):
        """Return what outputs stand for."""
        deviation = math.sqrt(self.head.variance) * ops.ones_like(outputs)
        return {"mean": outputs, "standard_deviation": deviation}

    def log_likelihood(self, y_true, outputs):
        """Return log p(y | x) of each sample, in nats."""
        squares = ops.sum(ops.square(y_true - outputs), axis=-1)
        return -squares / (2 * self.head.variance) - self.constant


class LearnedVarianceRegression(Task):
    """Targets with Gaussian noise whose variance depends on the input."""

    kind = "regression, learned variance"

    def __init__(self, head):
        super().__init__(head)
        self.width, self.factor, self.constant = 2 * self.size, float(self.size), self.size / 2 * LOG_2_PI

    def loss(self):
        """Return the loss."""
        return GaussianNLL(self.head.variance_form, self.head.min_variance)

    def metrics(self):
        """Return new metrics."""
        return [GaussianMean(metric) for metric in FixedVarianceRegression.metrics(self)]

    def _parameters(self, outputs):
        return gaussian_parameters(outputs, self.head.variance_form, self.head.min_variance)

    def activate(self, outputs):
        """Return what outputs stand for."""
        mean, variance = self._parameters(outputs)
        return {"mean": mean, "standard_deviation": ops.sqrt(variance)}

    def log_likelihood(self, y_true, outputs):
        """Return log p(y | x) of each sample, in nats."""
        mean, variance = self._parameters(outputs)
        terms = ops.log(variance) + ops.square(y_true - mean) / variance
        return -ops.sum(terms, axis=-1) / 2 - self.constant


class Multilabel(Task):
    """Labels that are each there or not: a Bernoulli distribution for every one."""

    kind = "multilabel"

    def __init__(self, head):
        super().__init__(head)
        self.factor = float(self.size)

    def loss(self):
        """Return the loss."""
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self):
        """Return new metrics."""
        area = keras.metrics.AUC(name="auc", from_logits=True, multi_label=True, num_labels=self.size)
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0), area]

    def activate(self, outputs):
        """Return what outputs stand for."""
        return ops.sigmoid(outputs)

    def log_likelihood(self, y_true, outputs):
        """Return log p(y | x) of each sample, in nats."""
        return ops.sum(y_true * outputs - ops.softplus(outputs), axis=-1)


class Binary(Multilabel):
    """One label that is there or not."""

    kind = "binary"

    def metrics(self):
        """Return new metrics."""
        return [
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0),
            keras.metrics.AUC(name="auc", from_logits=True),
        ]


class Multiclass(Task):
    """One of several classes, from its id."""

    kind = "multiclass, labels as ids"

    def loss(self):
        """Return the loss."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self):
        """Return new metrics."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def activate(self, outputs):
        """Return what outputs stand for."""
        return ops.softmax(outputs, axis=-1)

    def log_likelihood(self, y_true, outputs):
        """Return log p(y | x) of each sample, in nats."""
        shape = ops.shape(outputs)[:-1]
        ids = check_class_ids(ops.cast(ops.reshape(y_true, (-1,)), "int32"), self.size, "OutputHead")
        rows = ops.reshape(outputs, (-1, self.size))
        none = ops.zeros((1, 1), dtype=rows.dtype)
        return ops.reshape(-smoothed_crossentropy(rows, ids, none, 0.0), shape)


class MulticlassOneHot(Multiclass):
    """One of several classes, from its row of zeros and a one."""

    kind = "multiclass, one-hot labels"

    def loss(self):
        """Return the loss."""
        return keras.losses.CategoricalCrossentropy(from_logits=True)

    def metrics(self):
        """Return new metrics."""
        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def log_likelihood(self, y_true, outputs):
        """Return log p(y | x) of each sample, in nats."""
        return ops.sum(ops.cast(y_true, outputs.dtype) * ops.log_softmax(outputs, axis=-1), axis=-1)
