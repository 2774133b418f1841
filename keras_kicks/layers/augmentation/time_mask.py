"""Spans of sequences that are blanked out."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.layers.augmentation.augmentation import Augmentation, wide
from keras_kicks.ops.padding import broadcast_mask, steps_that_count
from keras_kicks.ops.random import draw_uniform


@keras.saving.register_keras_serializable(package="keras_kicks")
class TimeMask(Augmentation):
    """Blanks out spans of consecutive steps of each sequence, in training.

        training:   y_t = value for t0 <= t < t0 + width,  else x_t, for each of `count` spans
                    width ~ U{0, ..., min(max_width, floor(max_share n))},  t0 ~ U{0, ..., n - width}
        inference:  y = x

    where n is the number of steps that count of this sample. Spans may overlap.

    Args:
        max_width: Largest number of steps of a span, >= 1.
        count: Number of spans, >= 1.
        max_share: Largest share of the sequence that one span takes, in (0, 1].
        value: What the steps are set to: the mean of the features, which is 0 after standardization.
        seed: None or an integer. Replicas of a tf.distribute strategy draw different spans from the same seed.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, steps, ..., features), floating.
        mask: Bool of shape (batch, steps), or None.
        training: Whether to blank anything out.

    Returns:
        The shape of `inputs`, in the compute dtype.

    Raises:
        TypeError: `max_width` or `count` is no integer, `max_share` or `value` no number, `seed` no integer; expected
            floating inputs.
        ValueError: expected max_width >= 1; count >= 1; 0 < max_share <= 1; inputs of shape (batch, steps, features).

    Masking:
        The mask is passed on as it is: the model is to do without the steps that are blanked out. Padding stays.

    Source:
        Park et al., "SpecAugment", 2019, arXiv:1904.08779, time masking. Departure: a span may end with the sequence,
        where the paper's t0 < n - width keeps the last step.

    Example:
        >>> import numpy as np
        >>> y = TimeMask(4, max_share=0.5, seed=0)(np.ones((100, 6, 1), "float32"), training=True)
        >>> sorted(set(keras.ops.convert_to_numpy(y).sum(axis=(1, 2)).tolist()))
        [3.0, 4.0, 5.0, 6.0]
    """

    least_rank = 3

    def __init__(self, max_width, count=1, max_share=1.0, value=0.0, seed=None, **kwargs):
        owner = type(self).__name__
        expect_integer(owner, max_width=max_width, count=count)
        expect(max_width >= 1, owner, "max_width >= 1", max_width=max_width)
        expect(count >= 1, owner, "count >= 1", count=count)
        expect_number(owner, max_share=max_share, value=value)
        expect(0 < max_share <= 1, owner, "0 < max_share <= 1", max_share=max_share)
        super().__init__(seed, **kwargs)
        self.max_width = int(max_width)
        self.count = int(count)
        self.max_share = float(max_share)
        self.value = float(value)

    def changed(self, inputs, mask):
        """Blank out spans."""
        counts, ranks, _ = steps_that_count(inputs, mask)
        counts, ranks = counts[:, None, None], ranks[:, None]
        # Half a thousandth of a step, since a share such as 0.3 of 10 steps is a little less than 3 in float32.
        share = ops.floor(self.max_share * ops.cast(counts, "float32") + 5e-4)
        widest = ops.minimum(ops.cast(share, "int32"), self.max_width)
        width = self._draw(inputs, widest)
        start = self._draw(inputs, counts - width)
        blank = ops.any(ops.logical_and(ranks >= start, ranks < start + width), axis=1)
        x = wide(inputs)
        return ops.where(broadcast_mask(blank, x), ops.cast(self.value, x.dtype), x)

    def _draw(self, inputs, largest):
        """Draw integers from 0 to `largest`, of shape (batch, count, 1)."""
        shape = (ops.shape(inputs)[0], self.count, 1)
        drawn = draw_uniform(shape, self.seed_generator, per_replica=True) * ops.cast(largest + 1, "float32")
        return ops.minimum(ops.cast(ops.floor(drawn), "int32"), largest)  # The product may round up.

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "max_width": self.max_width,
            "count": self.count,
            "max_share": self.max_share,
            "value": self.value,
        }
        return {**super().get_config(), **config}
