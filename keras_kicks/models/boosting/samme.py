"""AdaBoost for any number of classes: SAMME."""

import numpy as np
from keras import ops

from keras_kicks.models.boosting.class_labels import class_ids


class Samme:
    """The weights of the samples, from round to round.

    error = sum_i w_i [learner(x_i) != y_i]
    weight = learning_rate (log((1 - error) / error) + log(K - 1))
    w_i <- w_i exp(weight [learner(x_i) != y_i]), scaled to the sum 1

    Args:
        owner: Name of the ensemble.
        y: Class ids.
        weights: First weight of each sample.
        outputs: Shape of a learner's output for one sample.
        settings: The ensemble.
    """

    def __init__(self, owner, y, weights, outputs, settings):
        self.owner, self.classes = owner, outputs[-1]
        self.ids = class_ids(owner, y, self.classes)
        self.w = weights / weights.sum()
        self.rate = settings.learning_rate
        self.start = np.zeros(outputs)

    def targets(self):
        """Return None: every learner has to find the labels."""

    def judge(self, outputs, used=None):
        """Return the weight of a learner, its error, and why there can be no other, or None."""
        error = float(self.w @ self._wrong(outputs))
        if error <= 0:
            return 1.0, 0.0, "the learner is perfect"
        chance = 1 - 1 / self.classes
        # Weights are kept in float32: what they make an error of chance is so but for rounding.
        if error >= chance - 1e-6:
            return None, error, f"a weighted error of {error:.4g} is no better than chance, {chance:.4g}"
        return self.rate * (np.log((1 - error) / error) + np.log(self.classes - 1)), error, None

    def follow(self, outputs, weight):
        """Give more weight to what a learner has wrong."""
        self.w = self.w * np.exp(weight * self._wrong(outputs))
        self.w /= self.w.sum()

    def _wrong(self, outputs):
        return outputs.argmax(axis=-1) != self.ids


class Votes:
    """Votes of the members so far: probabilities."""

    def __init__(self, start, samples):
        self.votes, self.total = np.zeros((samples, *start.shape)), 0.0

    def add(self, outputs, weight):
        """Count another member."""
        self.votes[np.arange(len(outputs)), outputs.argmax(axis=-1)] += weight
        self.total += weight

    def value(self):
        """Return the probabilities."""
        classes = self.votes.shape[1]
        decision = (self.votes * classes - self.total) / (classes - 1) / self.total
        odds = np.exp(decision / (classes - 1))
        return odds / odds.sum(axis=1, keepdims=True)

    def score(self, y, w, loss):
        """Return the weighted share of wrong labels."""
        return float(w @ (self.votes.argmax(axis=1) != y) / w.sum())


def combine(outputs, weights, start):
    """Return the probabilities for outputs of shape (n, batch, classes) and n weights, of which some may be zero."""
    classes = outputs.shape[-1]
    choices = ops.one_hot(ops.argmax(outputs, axis=-1), classes, dtype="float32")
    total = ops.sum(weights)
    votes = ops.einsum("n,nbk->bk", weights, choices) * classes - total
    return ops.softmax(votes / (classes - 1) ** 2 / ops.where(total > 0, total, ops.ones_like(total)), axis=-1)
