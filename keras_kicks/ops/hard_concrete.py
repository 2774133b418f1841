"""The hard concrete distribution: gates in [0, 1] that are exactly 0 or 1 with positive probability."""

import math

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.random import draw_uniform


def sampled_gates(log_alpha, seed, temperature, stretch):
    """Draw a gate for each location.

        s = sigmoid((log u - log(1 - u) + log_alpha) / temperature),   u uniform on (0, 1)
        z = min(max(s (high - low) + low, 0), 1)

    Args:
        log_alpha: Locations, a floating tensor.
        seed: As in `draw_uniform`; replicas draw the same.
        temperature: Number > 0.
        stretch: (low, high), low < 0 and high > 1.

    Returns:
        The shape and dtype of `log_alpha`, with the gradient by it.
    """
    uniform = ops.cast(draw_uniform(ops.shape(log_alpha), seed), log_alpha.dtype)
    numbers = [ops.convert_to_tensor(number, log_alpha.dtype) for number in (temperature, *stretch)]
    if keras.backend.backend() == "torch":
        # Keras calls custom gradients otherwise there, and nothing is compiled by itself.
        return _gate(*_stretched(log_alpha, uniform, *numbers))

    @ops.custom_gradient
    def gates(log_alpha):
        gate, slope = _gate_and_slope(log_alpha, uniform, *numbers)

        def gradient(upstream):
            return upstream * slope

        return gate, gradient

    return gates(log_alpha)


def mean_gates(log_alpha, stretch):
    """Return the gates without noise: min(max(sigmoid(log_alpha) (high - low) + low, 0), 1)."""
    low, high = stretch
    return ops.clip(ops.sigmoid(log_alpha) * (high - low) + low, 0.0, 1.0)


def open_probability(log_alpha, temperature, stretch):
    """Return the probability that a drawn gate is not 0: sigmoid(log_alpha - temperature log(-low / high))."""
    low, high = stretch
    return ops.sigmoid(log_alpha - temperature * math.log(-low / high))


def _stretched(log_alpha, uniform, temperature, low, high):
    """Return s, and s stretched."""
    s = ops.sigmoid((ops.log(uniform) - ops.log(1 - uniform) + log_alpha) / temperature)
    return s, s * (high - low) + low


def _gate(s, stretched):
    return ops.clip(stretched, 0.0, 1.0)


@cluster
def _gate_and_slope(log_alpha, uniform, temperature, low, high):
    """Return the gates, and their derivative by the location: 0 where a gate is 0 or 1."""
    s, stretched = _stretched(log_alpha, uniform, temperature, low, high)
    between = ops.logical_and(stretched > 0, stretched < 1)
    slope = s * (1 - s) * ((high - low) / temperature)
    return _gate(s, stretched), ops.where(between, slope, ops.zeros_like(slope))
