"""Features that are exchanged for those of other rows."""

import keras
from keras import ops

from keras_kicks.layers.augmentation.augmentation import Augmentation, for_features
from keras_kicks.ops.random import draw_uniform


@keras.saving.register_keras_serializable(package="keras_kicks")
class SwapNoise(Augmentation):
    """Replaces features by the same feature of another row of the batch, in training.

        training:   y_ij = x_kj with probability rate_j,  k != i drawn for each of them; else x_ij
        inference:  y = x

    Each feature keeps its distribution, whatever that is, and loses its relation to the others: noise for tables of
    mixed columns, numbers and categories alike, which needs no scale. Of sequences every step is a row. A batch of one
    row stays as it is.

    Args:
        rate: Probability in [0, 1] that a feature is replaced: one number or one for each feature, 0 for those that
            are to stay.
        seed: None or an integer. Replicas of a tf.distribute strategy draw differently from the same seed, and take
            rows from their own part of the batch.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, ..., features); also integers, such as ids of categories before an Embedding.
        mask: Bool, of the first axes of `inputs`, or None.
        training: Whether to replace anything.

    Returns:
        The shape of `inputs`; integers stay integers.

    Raises:
        TypeError: `rate` is no number, `seed` no integer.
        ValueError: expected 0 <= rate <= 1; inputs of shape (batch, ..., features); one rate or one for each feature.

    Masking:
        The mask is passed on. What it leaves out is not replaced, and replaces nothing.

    Source:
        Yoon, Zhang, Jordon and van der Schaar, "VIME", NeurIPS 2020, equation 3. Departure: the row is drawn anew for
        each feature that is replaced, and is never the own one, where the paper permutes whole columns.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1, 10], [2, 20]])
        >>> keras.ops.convert_to_numpy(SwapNoise([0.0, 1.0])(x, training=True)).tolist()
        [[1, 20], [2, 10]]
    """

    floating = False

    def __init__(self, rate, seed=None, **kwargs):
        owner = type(self).__name__
        rate = for_features(owner, "rate", rate, "0 <= rate <= 1", lambda r: 0 <= r <= 1)
        super().__init__(seed, **kwargs)
        self.rate = rate

    def numbers_of_features(self):
        """Return the rates."""
        return {"rate": self.rate}

    def changed(self, inputs, mask):
        """Replace features."""
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        count, places = ops.shape(rows)[0], ops.arange(ops.shape(rows)[0], dtype="int32")
        order = ranks = places
        if mask is not None:
            leading = (1,) * (len(inputs.shape) - 1 - len(mask.shape))
            taken = ops.cast(ops.reshape(mask, (*ops.shape(mask), *leading)), "bool")
            taken = ops.reshape(ops.broadcast_to(taken, ops.shape(inputs)[:-1]), (-1,))
            # Keys that differ, so that no order depends on how a backend sorts equal ones.
            order = ops.cast(ops.argsort(ops.where(taken, places, places + count)), "int32")
            ranks = ops.cumsum(ops.cast(taken, "int32")) - 1
            count = ops.sum(ops.cast(taken, "int32"))
        swapped = self._draw(rows) < ops.convert_to_tensor(self.rate, dtype="float32")
        others = ops.cast(ops.maximum(count - 1, 0), "int32")
        ahead = ops.cast(ops.floor(self._draw(rows) * ops.cast(others, "float32")), "int32")
        # The product may round up; of one row, nothing lies ahead.
        ahead = ops.where(others > 0, 1 + ops.minimum(ahead, others - 1), 0)
        donors = ops.take(order, ops.mod(ops.maximum(ranks, 0)[:, None] + ahead, others + 1), axis=0)
        donated = ops.take_along_axis(rows, donors, axis=0)
        return ops.reshape(ops.where(swapped, donated, rows), ops.shape(inputs))

    def _draw(self, rows):
        return draw_uniform(ops.shape(rows), self.seed_generator, per_replica=True)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "rate": self.rate}
