"""AdaBoost by probabilities instead of votes: SAMME.R, for two classes the Real AdaBoost."""

import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.models.boosting.samme import Samme, Votes

# Of float32: no probability is taken for less.
LEAST = float(np.finfo("float32").eps)


def _scores(probabilities):
    """Return h_k = (K - 1) (log p_k - mean_j log p_j)."""
    logs = np.log(np.maximum(probabilities, LEAST))
    return (logs.shape[1] - 1) * (logs - logs.mean(axis=1, keepdims=True))


class SammeR(Samme):
    """The weights of the samples, from round to round.

    h_k(x) = (K - 1) (log p_k(x) - mean_j log p_j(x))
    w_i <- w_i exp(-learning_rate h_{y_i}(x_i) / (K - 1)), scaled to the sum 1
    """

    def judge(self, outputs, used=None):
        """Return the weight of a learner, its error, and why there can be no other, or None."""
        sums = outputs.sum(axis=1)
        probable = bool((outputs >= 0).all() and (np.abs(sums - 1) < 0.05).all())
        rule, remedy = 'probabilities from a learner of "samme.r"', 'End it with a softmax, or take "samme".'
        expect(probable, self.owner, rule, remedy, smallest=float(outputs.min()), largest_sum=float(sums.max()))
        error = float(self.w @ self._wrong(outputs))
        if error <= 0:
            return self.rate, 0.0, "the learner is perfect"
        scale = float(self.w @ self._factors(outputs, self.rate))
        if scale >= 1 - 1e-9:
            return None, error, "the learner does not make the exponential loss less"
        return self.rate, error, None

    def follow(self, outputs, weight):
        """Give more weight to what has little probability."""
        self.w = self.w * self._factors(outputs, weight)
        self.w /= self.w.sum()

    def _factors(self, outputs, weight):
        own = _scores(outputs)[np.arange(len(outputs)), self.ids]
        return np.exp(-weight * own / (self.classes - 1))


class Scores(Votes):
    """Sum of the scores of the members so far: probabilities."""

    def add(self, outputs, weight):
        """Count another member."""
        self.votes += weight * _scores(outputs)

    def value(self):
        """Return the probabilities that the scores stand for."""
        logs = self.votes / (self.votes.shape[1] - 1)
        odds = np.exp(logs - logs.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def combine(outputs, weights, start):
    """Return the probabilities for outputs of shape (n, batch, classes) and n weights, of which some may be zero."""
    return ops.softmax(ops.einsum("n,nbk->bk", weights, ops.log(ops.maximum(outputs, LEAST))), axis=-1)
