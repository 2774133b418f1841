"""Sequences that are made larger or smaller."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.layers.augmentation.augmentation import Augmentation, wide
from keras_kicks.ops.random import draw_normal


@keras.saving.register_keras_serializable(package="keras_kicks")
class SequenceScaling(Augmentation):
    """Multiplies each feature of each sequence by a factor near 1, in training, the same at all steps.

        training:   y_bt = f_b x_bt,  f_b ~ N(1, deviation^2) for each sample and feature
        inference:  y = x

    Args:
        deviation: Standard deviation of the factor, >= 0.
        per_feature: Whether each feature has a factor of its own, or all of a sequence have one.
        seed: None or an integer. Replicas of a tf.distribute strategy draw different factors from the same seed.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, steps, ..., features), floating.
        mask: Bool of shape (batch, steps), or None.
        training: Whether to scale.

    Returns:
        The shape of `inputs`, in the compute dtype. Factors are drawn and applied in float32.

    Raises:
        TypeError: `deviation` is no number, `seed` no integer; expected floating inputs.
        ValueError: expected deviation >= 0; inputs of shape (batch, steps, features).

    Masking:
        The mask is passed on. What it leaves out is not scaled.

    Source:
        Um et al. 2017, arXiv:1706.00527, "scaling".

    Example:
        >>> import numpy as np
        >>> y = SequenceScaling(0.1, seed=0)(np.ones((2, 5, 3), "float32"), training=True)
        >>> keras.ops.convert_to_numpy(y).std(axis=1).round(6).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    least_rank = 3

    def __init__(self, deviation=0.1, per_feature=True, seed=None, **kwargs):
        owner = type(self).__name__
        expect_number(owner, deviation=deviation)
        expect(deviation >= 0, owner, "deviation >= 0", deviation=deviation)
        super().__init__(seed, **kwargs)
        self.deviation = float(deviation)
        self.per_feature = bool(per_feature)

    def changed(self, inputs, mask):
        """Scale each sequence."""
        x, between = wide(inputs), (1,) * (len(inputs.shape) - 2)
        shape = (ops.shape(inputs)[0], *between, inputs.shape[-1] if self.per_feature else 1)
        return x * ops.cast(1 + self.deviation * draw_normal(shape, self.seed_generator, per_replica=True), x.dtype)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "deviation": self.deviation, "per_feature": self.per_feature}
