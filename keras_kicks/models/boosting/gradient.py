"""Gradient boosting."""

import numpy as np
from keras import ops


def weighted_quantile(values, weights, share=0.5):
    """Return where the cumulated weights reach a share; the middle, where they reach it between two values."""
    order = np.argsort(values, kind="stable")
    values, reached = values[order], np.cumsum(weights[order])
    ends = [np.searchsorted(reached, share * reached[-1] * (1 + sign * 1e-12)) for sign in (-1, 1)]
    low, high = (values[min(end, len(values) - 1)] for end in ends)
    return (low + high) / 2


class SquaredError:
    """L = (y - F)^2, whose pseudo-residuals are the residuals r = y - F."""

    def start(self, y, w):
        """Return the constants that make the sum of losses least, one for each column."""
        return w @ y / w.sum()

    def fix(self, r, w):
        """Set what the loss takes from all residuals."""

    def value(self, r):
        """Return the losses."""
        return r**2

    def negative_gradient(self, r):
        """Return what a learner has to find."""
        return r

    def step(self, r, h, w):
        """Return the step along h that makes the sum of losses least; 0 if there is none."""
        squares = w @ h**2
        return w @ (r * h) / squares if squares > 0 else 0.0


class AbsoluteError(SquaredError):
    """L = |y - F|."""

    def start(self, y, w):
        """Return medians."""
        return np.array([weighted_quantile(column, w) for column in y.T])

    def value(self, r):
        """Return the losses."""
        return np.abs(r)

    def negative_gradient(self, r):
        """Return signs; a median passes through samples, whose residuals are zero but for rounding to float32."""
        return np.where(np.abs(r) <= 1e-6 * np.max(np.abs(r)), 0.0, np.sign(r))

    def step(self, r, h, w):
        """Return a weighted median."""
        there = (h != 0) & (w > 0)
        return weighted_quantile(r[there] / h[there], (w * np.abs(h))[there]) if there.any() else 0.0


class Huber(AbsoluteError):
    """L = r^2 / 2 within delta, delta (|r| - delta / 2) beyond; delta is a quantile of |r|, anew in each round."""

    def __init__(self, share):
        self.share, self.delta = share, 0.0

    def fix(self, r, w):
        """Set delta."""
        self.delta = weighted_quantile(np.abs(r), w, self.share)

    def value(self, r):
        """Return the losses."""
        size = np.abs(r)
        return np.where(size <= self.delta, r**2 / 2, self.delta * (size - self.delta / 2))

    def negative_gradient(self, r):
        """Return clipped residuals."""
        return np.clip(r, -self.delta, self.delta)

    def step(self, r, h, w):
        """Return where the slope of the losses along h, which never rises, is zero."""
        there = (h != 0) & (w > 0)
        if not there.any():
            return 0.0
        r, h, w = r[there], h[there], w[there]
        low, high = float(np.min(r / h)), float(np.max(r / h))
        for _ in range(100):
            middle = (low + high) / 2
            downhill = w @ (h * self.negative_gradient(r - middle * h)) > 0
            low, high = (middle, high) if downhill else (low, middle)
        return (low + high) / 2


def loss_of(settings):
    """Return the loss by its name."""
    if settings.boosting_loss == "huber":
        return Huber(settings.huber_quantile)
    return {"squared_error": SquaredError, "absolute_error": AbsoluteError}[settings.boosting_loss]()


class Gradient:
    """The ensemble's residuals, from round to round.

    learner ~ - dL / dF,   step = argmin sum_i w_i L(y_i, F(x_i) + step learner(x_i))
    weight = learning_rate step,   F <- F + weight learner

    Args:
        owner: Name of the ensemble.
        y: Labels in the shape of the learner's outputs.
        weights: First weight of each sample.
        outputs: Shape of a learner's output for one sample.
        settings: The ensemble.
    """

    def __init__(self, owner, y, weights, outputs, settings):
        self.y, self.w, self.rate, self.loss = y, weights, settings.learning_rate, loss_of(settings)
        # As the ensemble keeps it.
        start = self.loss.start(y.reshape(len(y), -1), weights).astype(settings.members.start.dtype)
        self.begin(start.astype("float64").reshape(outputs))

    def begin(self, start):
        """Begin the sum with these numbers."""
        self.start, self.rounds = start, 0
        self.residual = self.y - start
        self._fix()

    def _fix(self):
        self.loss.fix(*self._flat(self.residual))

    def _flat(self, r, places=slice(None)):
        """Return all numbers in a row, and a weight for each."""
        each = np.broadcast_to(self.w.reshape(-1, *[1] * (r.ndim - 1)), r.shape)
        return r[places].ravel(), each[places].ravel()

    def targets(self):
        """Return what the learner of this round has to find."""
        return self.loss.negative_gradient(self.residual)

    def judge(self, outputs, used=None):
        """Return the weight of a learner, its mean squared error, and why there can be no other, or None."""
        used = slice(None) if used is None else used
        r, w = self._flat(self.residual, used)
        h = outputs[used].ravel()
        error = float(w @ (self.targets()[used].ravel() - h) ** 2 / w.sum())
        if not (self.w @ np.abs(self.residual).reshape(len(self.w), -1)).sum() > 0:
            # Labels that are all the same: the start is the model, and a member of weight zero with it.
            return None if self.rounds else 0.0, error, "no residuals are left"
        step = float(self.loss.step(r, h, w))
        if step == 0:
            return None, error, "no step along the learner makes the loss less"
        return self.rate * step, error, None

    def follow(self, outputs, weight):
        """Take the step."""
        self.rounds += 1
        self.residual = self.residual - weight * outputs
        self._fix()


class Sum:
    """The start and the weighted members so far."""

    def __init__(self, start, samples):
        self.sum = np.repeat(start[None], samples, axis=0)

    def add(self, outputs, weight):
        """Add another member."""
        self.sum = self.sum + weight * outputs

    def value(self):
        """Return the sum."""
        return self.sum

    def score(self, y, w, loss):
        """Return the weighted mean of a loss."""
        losses = loss.value(y - self.sum).reshape(len(y), -1).mean(axis=1)
        return float(w @ losses / w.sum())


def combine(outputs, weights, start):
    """Return the sum for outputs of shape (n, batch, ...)."""
    return start + ops.tensordot(weights, outputs, axes=1)
