"""What the gates of weights cost."""

import math

from keras import ops

from keras_kicks.ops.hard_concrete import open_probability


class GatePenalty:
    """The expected L0 norm of gated weights, and the expected square of their L2 norm, as a regularizer of locations.

    Args:
        group: The variables that have the gates: a kernel, and perhaps a bias.
        weight: Factor of the expected number of weights that are not 0.
        l2: Factor of the expected sum of squares.
        temperature: As in `open_probability`.
        stretch: As in `open_probability`.
    """

    def __init__(self, group, weight, l2, temperature, stretch):
        self.group, self.weight, self.l2 = group, weight, l2
        self.temperature, self.stretch = temperature, stretch

    def __call__(self, log_alpha):
        """Return the penalty."""
        log_alpha = ops.convert_to_tensor(log_alpha)
        probability = open_probability(log_alpha, self.temperature, self.stretch)
        penalty = ops.sum(probability) * (self.weight * group_size(self.group, log_alpha))
        if self.l2:
            for variable in self.group:
                shape = variable.shape if len(variable.shape) == 1 else probability.shape
                squares = ops.square(ops.convert_to_tensor(variable))
                penalty += self.l2 * ops.sum(squares * ops.reshape(probability, shape))
        return penalty


def group_size(group, gates):
    """Return the number of weights that share a gate."""
    return sum(math.prod(variable.shape) for variable in group) // math.prod(gates.shape)
