"""Group normalization, faster to train than Keras's."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.ops.group_norm import group_norm


@keras.saving.register_keras_serializable(package="keras_kicks")
class GroupNormalization(keras.layers.GroupNormalization):
    """Normalizes groups of channels of each sample: `keras.layers.GroupNormalization` with a faster training step.

    With the channels split into `groups`, and mean and variance taken over the positions and channels of one group of
    one sample,

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    Arguments, weights and values are Keras's, and a model file made with either loads its weights into the other. In
    training the forward and the backward pass are written by hand (`keras_kicks.ops.group_norm`); in inference
    Keras's own operations run, so that an exported graph holds nothing unusual (on torch, torch's kernel in both).

    Args:
        groups: Number of groups, a divisor of the channels; -1 for one per channel (instance normalization).
        axis: Integer, the channel axis; not 0, the batch axis.
        epsilon: Added to the variance, > 0.
        center: Whether to add the learned `beta`.
        scale: Whether to multiply by the learned `gamma`.
        beta_initializer: Initializer of `beta`.
        gamma_initializer: Initializer of `gamma`.
        beta_regularizer: Regularizer of `beta`.
        gamma_regularizer: Regularizer of `gamma`.
        beta_constraint: Constraint of `beta`.
        gamma_constraint: Constraint of `gamma`.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, ..., channels), or with the channels at `axis`; rank 2 or more; floating.
        training: Whether the gradient will be taken. It chooses the implementation, not the values.

    Returns:
        The shape of `inputs`, in the compute dtype. Statistics are computed in float32 or wider.

    Raises:
        TypeError: `groups` or `axis` is no integer, `epsilon` no number.
        ValueError: expected groups >= 1 or groups == -1; epsilon > 0; axis other than 0; channels known when the
            layer is built and divisible by groups.

    Masking:
        The mask is passed on. Masked positions count in the statistics, as in Keras.

    Source:
        Wu and He, "Group Normalization", 2018, arXiv:1803.08494. Departure: epsilon is 1e-3 as in Keras, not 1e-5.

    Example:
        >>> import numpy as np
        >>> layer = GroupNormalization(groups=2)
        >>> y = layer(np.array([[1.0, 3.0, 10.0, 30.0]]), training=True)
        >>> keras.ops.convert_to_numpy(y).round(2).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]
    """

    def __init__(self, groups=32, axis=-1, epsilon=1e-3, **kwargs):
        owner = type(self).__name__
        expect_integer(owner, groups=groups, axis=axis)
        expect(groups >= 1 or groups == -1, owner, "groups >= 1 or groups == -1", groups=groups)
        expect(axis != 0, owner, "axis other than 0, the batch axis", axis=axis)
        expect_number(owner, epsilon=epsilon)
        expect(epsilon > 0, owner, "epsilon > 0", epsilon=epsilon)
        super().__init__(groups=groups, axis=axis, epsilon=epsilon, **kwargs)
        self._requested_groups = groups

    def build(self, input_shape):
        """Create `gamma` and `beta`, of one entry per channel."""
        owner, rank = type(self).__name__, len(input_shape)
        expect(
            rank >= 2 and -rank < self.axis < rank,
            owner,
            "an input of rank 2 or more with the channels at axis",
            axis=self.axis,
            input_shape=tuple(input_shape),
        )
        channels = input_shape[self.axis]
        expect(
            channels is not None, owner, "a known number of channels", axis=self.axis, input_shape=tuple(input_shape)
        )
        groups = channels if self._requested_groups == -1 else self._requested_groups
        expect(
            channels % groups == 0,
            owner,
            "groups to divide the channels",
            f"Divisors of {channels}: {', '.join(str(n) for n in range(1, channels + 1) if channels % n == 0)}.",
            groups=groups,
            channels=channels,
        )
        super().build(input_shape)

    def call(self, inputs, training=None):
        """Normalize `inputs`."""
        # On torch Keras's variance is E[x^2] - E[x]^2, which cancels where the mean is large: the kernel serves both.
        if not training and keras.backend.backend() != "torch":
            return super().call(inputs)
        axis = self.axis % len(inputs.shape)
        if axis in (1, len(inputs.shape) - 1):
            return self._normalized(inputs, axis)
        return ops.moveaxis(self._normalized(ops.moveaxis(inputs, axis, 1), 1), 1, axis)

    def _normalized(self, inputs, axis):
        channels_last = axis == len(inputs.shape) - 1
        shape, channels = ops.shape(inputs), inputs.shape[axis]
        count = math.prod(size for i, size in enumerate(shape) if i not in (0, axis))
        y = group_norm(
            ops.reshape(inputs, (-1, count, channels) if channels_last else (-1, channels, count)),
            # A reshape, since TensorFlow's custom gradients want tensors and no conversion reads the variable.
            ops.reshape(self.gamma, (channels,)) if self.scale else ops.ones((channels,)),
            ops.reshape(self.beta, (channels,)) if self.center else ops.zeros((channels,)),
            self.groups,
            self.epsilon,
            channel_axis=2 if channels_last else 1,
        )
        return ops.cast(ops.reshape(y, shape), self.compute_dtype)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "groups": self._requested_groups}
