"""Randomized leaky ReLU."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number, expect_seed
from keras_kicks.ops.random import draw_levels
from keras_kicks.ops.rrelu import random_slopes


@keras.saving.register_keras_serializable(package="keras_kicks")
class RReLU(keras.layers.Layer):
    """Randomized leaky ReLU: a slope drawn for each element in training, their mean in inference.

        training:   y = x if x > 0 else a x,  a ~ U(lower, upper) for each element and call
        inference:  y = x if x > 0 else (lower + upper) / 2 x

    The slope is all that is kept for the backward pass: y = x m with m = 1 or a, and dy/dx = m.

    Args:
        lower: Smallest slope.
        upper: Largest slope; equal to `lower` for a plain leaky ReLU.
        seed: None or an integer. Replicas of a tf.distribute strategy draw
            different slopes from the same seed.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Any shape, floating.
        training: Whether to draw.

    Returns:
        The shape of `inputs`, in the compute dtype. Slopes are drawn in float32 at 2^15 levels whose mean is exactly
        (lower + upper) / 2.

    Raises:
        TypeError: `lower` or `upper` is no number, `seed` no integer.
        ValueError: expected 0 <= lower <= upper <= 1.

    Masking:
        The mask is passed on.

    Source:
        Xu, Wang, Chen and Li, "Empirical Evaluation of Rectified Activations in Convolutional Network", 2015,
        arXiv:1505.00853. Departure: the paper divides by a number from U(3, 8); this multiplies by one from
        U(1/8, 1/3), as torch.nn.RReLU does.

    Example:
        >>> import numpy as np
        >>> layer = RReLU(lower=0.1, upper=0.3)
        >>> keras.ops.convert_to_numpy(layer(np.array([-10.0, 5.0]))).tolist()
        [-2.0, 5.0]
    """

    def __init__(self, lower=1 / 8, upper=1 / 3, seed=None, **kwargs):
        owner = type(self).__name__
        expect_number(owner, lower=lower, upper=upper)
        expect(0 <= lower <= upper <= 1, owner, "0 <= lower <= upper <= 1", lower=lower, upper=upper)
        expect_seed(owner, seed)
        super().__init__(**kwargs)
        self.lower = float(lower)
        self.upper = float(upper)
        self.seed = seed
        self.supports_masking = True
        if self.lower < self.upper:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        """Apply the activation."""
        if not training or self.lower == self.upper:
            return ops.leaky_relu(inputs, (self.lower + self.upper) / 2)
        levels = draw_levels(ops.shape(inputs), self.seed_generator, per_replica=True)
        return inputs * ops.stop_gradient(random_slopes(inputs, levels, self.lower, self.upper))

    def compute_output_shape(self, input_shape):
        """Return the input shape."""
        return input_shape

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "lower": self.lower, "upper": self.upper, "seed": self.seed}
