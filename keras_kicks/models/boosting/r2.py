"""AdaBoost for regression: AdaBoost.R2."""

import numpy as np
from keras import ops

# Where the cumulated weights reach a half, as sums in float32 tell it.
HALF = 0.5 * (1 - 1e-5)

LOSSES = {"linear": lambda d: d, "square": lambda d: d**2, "exponential": lambda d: 1 - np.exp(-d)}


class R2:
    """The weights of the samples, from round to round.

    L_i = loss(|learner(x_i) - y_i| / D),   D the largest distance where w_i > 0
    error = sum_i w_i L_i,   beta = error / (1 - error)
    weight = learning_rate log(1 / beta)
    w_i <- w_i beta^(learning_rate (1 - L_i)), scaled to the sum 1

    Args:
        owner: Name of the ensemble.
        y: Labels of shape (samples, 1).
        weights: First weight of each sample.
        outputs: Shape of a learner's output for one sample.
        settings: The ensemble.
    """

    def __init__(self, owner, y, weights, outputs, settings):
        self.y = y
        self.w = weights / weights.sum()
        self.rate = settings.learning_rate
        self.loss = LOSSES[settings.boosting_loss]
        self.start = np.zeros(outputs)

    def targets(self):
        """Return None: every learner has to find the labels."""

    def judge(self, outputs, used=None):
        """Return the weight of a learner, its error, and why there can be no other, or None."""
        error = float(self.w @ self._losses(outputs))
        if error <= 0:
            return 1.0, 0.0, "the learner is perfect"
        if error >= 0.5 - 1e-6:
            return None, error, f"a mean loss of {error:.4g} is no less than 0.5"
        return self.rate * np.log((1 - error) / error), error, None

    def follow(self, outputs, weight):
        """Give more weight to what a learner is far from."""
        self.w = self.w * np.exp(-weight * (1 - self._losses(outputs)))
        self.w /= self.w.sum()

    def _losses(self, outputs):
        distance = np.abs(outputs - self.y)[:, 0]
        largest = distance[self.w > 0].max()
        # A sample that has no weight may be further away than all that have one.
        return self.loss(np.minimum(distance / largest, 1)) if largest > 0 else 0 * distance


class Medians:
    """Weighted median of the members so far."""

    def __init__(self, start, samples):
        self.sorted, self.weights = np.zeros((samples, 0)), np.zeros((samples, 0))

    def add(self, outputs, weight):
        """Count another member."""
        values = np.concatenate([self.sorted, outputs], axis=1)
        # Rows that were in order but for the last take a stable sort one pass.
        order = np.argsort(values, axis=1, kind="stable")
        weights = np.concatenate([self.weights, np.full((len(values), 1), weight)], axis=1)
        self.sorted, self.weights = (np.take_along_axis(a, order, axis=1) for a in (values, weights))

    def value(self):
        """Return the medians, of shape (samples, 1)."""
        reached = np.cumsum(self.weights, axis=1)
        place = np.argmax(reached >= HALF * reached[:, -1:], axis=1)
        return np.take_along_axis(self.sorted, place[:, None], axis=1)

    def score(self, y, w, loss):
        """Return the weighted mean squared error."""
        return float(w @ (self.value() - y)[:, 0] ** 2 / w.sum())


def combine(outputs, weights, start):
    """Return the weighted median of outputs of shape (n, batch, 1), for n weights of which some may be zero."""
    values = ops.transpose(outputs[..., 0])
    order = ops.argsort(values, axis=-1)
    reached = ops.cumsum(ops.take(weights, order, axis=0), axis=-1)
    place = ops.argmax(ops.cast(reached >= HALF * ops.sum(weights), "int32"), axis=-1)
    return ops.take_along_axis(ops.take_along_axis(values, order, axis=-1), place[:, None], axis=-1)
