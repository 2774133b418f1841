"""One step of a simple recurrent network with a hyperbolic tangent, forward and backward."""

import dataclasses

from keras import ops

from keras_kicks.ops.position_sums import sum_steps
from keras_kicks.ops.recurrence_rule import Rule


@dataclasses.dataclass(frozen=True)
class SimpleRNNRule(Rule):
    """The step h = tanh(x + h U + b) of `keras.layers.SimpleRNNCell`.

    Weights: "recurrent_kernel", and "bias" if it is there. A constant "recurrent_mask" multiplies the state before
    its product.

    Attributes:
        dropped: Whether there is a "recurrent_mask".
    """

    dropped: bool = False

    products = frozenset({"recurrent_kernel"})

    def forward(self, x, states, w, extras):
        """Make one step; keeps its result."""
        x = x + ops.matmul(self._dropped(states[0], w), w["recurrent_kernel"])
        h = ops.tanh(x + w["bias"] if "bias" in w else x)
        return (h,), (h,)

    def _dropped(self, h, w):
        return h * w["recurrent_mask"] if self.dropped else h

    def prepare(self, w):
        """Transpose the matrix once."""
        return {**w, "recurrent_kernel_t": ops.transpose(w["recurrent_kernel"])}

    def backward(self, states, kept, w, extras, dstates):
        """Make the step's gradient."""
        dx = dstates[0] * (1 - ops.square(kept[0]))
        return dx, (self._dropped(ops.matmul(dx, w["recurrent_kernel_t"]), w),), ()

    def finish(self, states, kept, dx, more, w):
        """Make the gradients of the weights."""
        return {"bias": sum_steps(lambda d: d, dx), "recurrent_kernel": (self._dropped(states[0], w), None)}
