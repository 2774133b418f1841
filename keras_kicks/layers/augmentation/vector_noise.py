"""Noise that is added to the features of tables and sequences."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect_choice
from keras_kicks.layers.augmentation.augmentation import Augmentation, for_features, wide
from keras_kicks.ops.random import draw_normal, draw_uniform


@keras.saving.register_keras_serializable(package="keras_kicks")
class VectorNoise(Augmentation):
    """Adds noise of a size of its own to each feature, in training; of sequences also called jitter.

        training:   y_j = x_j + scale_j n,  n of mean 0 and variance 1 for each element and call
        inference:  y = x

    For a linear model and the squared error this is Tikhonov's regularization: the expected loss is the one without
    noise and sum_j scale_j^2 w_j^2. Features that are no quantities, such as one-hot categories, stay as they are with
    a scale of 0. `keras.layers.GaussianNoise` has one scale, of at most 1, for all features, and draws in the compute
    dtype, on padding too, and on all replicas the same.

    Args:
        scale: Standard deviation of the noise, >= 0, in the unit of the inputs: one number or one for each feature,
            such as `0.1 * x.std(axis=0)`. Behind `keras.layers.Normalization` a number is relative to each feature's
            own standard deviation.
        distribution: "normal", or "uniform" on [-sqrt(3) scale, sqrt(3) scale].
        seed: None or an integer. Replicas of a tf.distribute strategy draw different noise from the same seed.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, ..., features), floating.
        mask: Bool, of the first axes of `inputs`, or None.
        training: Whether to add noise.

    Returns:
        The shape of `inputs`, in the compute dtype. Noise is drawn and added in float32.

    Raises:
        TypeError: `scale` is no number, `seed` no integer; expected floating inputs.
        ValueError: expected scale >= 0; a known distribution; inputs of shape (batch, ..., features); one scale or one
            for each feature.

    Masking:
        The mask is passed on. What it leaves out gets no noise.

    Source:
        Bishop, "Training with Noise is Equivalent to Tikhonov Regularization", Neural Computation 7, 1995; jitter of
        sequences: Um et al. 2017, arXiv:1706.00527.

    Example:
        >>> import numpy as np
        >>> x = np.ones((2, 3), "float32")
        >>> y = keras.ops.convert_to_numpy(VectorNoise([0.5, 0.0, 0.1], seed=0)(x, training=True))
        >>> (y != x).tolist()
        [[True, False, True], [True, False, True]]
    """

    def __init__(self, scale, distribution="normal", seed=None, **kwargs):
        owner = type(self).__name__
        scale = for_features(owner, "scale", scale, "scale >= 0", lambda s: s >= 0)
        expect_choice(owner, ("normal", "uniform"), distribution=distribution)
        super().__init__(seed, **kwargs)
        self.scale = scale
        self.distribution = distribution

    def numbers_of_features(self):
        """Return the scales."""
        return {"scale": self.scale}

    def changed(self, inputs, mask):
        """Add noise."""
        x, shape = wide(inputs), ops.shape(inputs)
        if self.distribution == "normal":
            noise = draw_normal(shape, self.seed_generator, per_replica=True)
        else:
            noise = math.sqrt(3.0) * (2.0 * draw_uniform(shape, self.seed_generator, per_replica=True) - 1.0)
        return x + ops.cast(noise, x.dtype) * ops.convert_to_tensor(self.scale, dtype=x.dtype)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "scale": self.scale, "distribution": self.distribution}
