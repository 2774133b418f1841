"""Clipping by a percentile of the norms so far."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.optimizers.transforms.clipping import Clip


@keras.saving.register_keras_serializable(package="keras_kicks")
class PercentileClip(Clip):
    """Shortens the gradient of all variables to a percentile of the norms of the last steps (AutoClip).

    With n_t the norm of the gradient of step t and p_t the percentile of n_1 ... n_t,

        u = (p_t / n_t) g    where n_t > p_t

    Args:
        percentile: In [0, 100].
        history: How many of the last norms are kept, >= 1.

    Returns:
        A transform for `Chain`. It remembers "history" (the norms, infinite where there is none yet), "limit" (p_t of
        the last step) and what `ClipByGlobalNorm` does.

    Raises:
        TypeError: `percentile` is no number, `history` no integer.
        ValueError: expected 0 <= percentile <= 100; history >= 1.

    Source:
        Seetharaman, Wichern, Pardo and Le Roux 2020, arXiv:2007.14469. Departure: the norms that are kept are the last
        ones, not all, so that memory is bounded; a norm that is not finite is not kept.

    Example:
        >>> PercentileClip(20).get_config()
        {'percentile': 20.0, 'history': 1000}
    """

    def __init__(self, percentile=10.0, history=1000):
        owner = type(self).__name__
        expect_number(owner, percentile=percentile)
        expect(0 <= percentile <= 100, owner, "0 <= percentile <= 100", percentile=percentile)
        expect_integer(owner, history=history)
        expect(history >= 1, owner, "history >= 1", history=history)
        self.percentile, self.history = float(percentile), int(history)

    def own(self):
        """Return what is remembered."""
        history = {"history": ((self.history,), np.inf, "float32"), "kept": ((), 0, "int32")}
        return {**super().own(), **history, "limit": ((), np.inf, "float32")}

    def clip(self, gradients, state, now):
        """Shorten the gradients of all variables by one factor."""
        size = state["norm"]
        finite = ops.isfinite(size)
        here = ops.equal(ops.arange(self.history, dtype="int32"), state["kept"] % self.history)
        state["history"] = ops.where(ops.logical_and(here, finite), size, state["history"])
        state["kept"] = state["kept"] + ops.cast(finite, "int32")
        state["limit"] = self._percentile(state["history"], ops.minimum(state["kept"], self.history))
        scale = ops.where(size > state["limit"], state["limit"] / size, 1.0)
        return [g * ops.cast(scale, g.dtype) for g in gradients], size > state["limit"], state

    def _percentile(self, history, count):
        """Interpolate between the two nearest of the first `count` sorted norms; infinite without any."""
        ordered = ops.sort(history)
        place = self.percentile / 100 * ops.cast(ops.maximum(count - 1, 0), "float32")
        below = ops.cast(ops.floor(place), "int32")
        above = ops.minimum(below + 1, ops.maximum(count - 1, 0))
        low, high, share = ops.take(ordered, below), ops.take(ordered, above), place - ops.floor(place)
        return ops.where(share > 0, low + share * (high - low), low)

    def get_config(self):
        """Return the constructor arguments."""
        return {"percentile": self.percentile, "history": self.history}
