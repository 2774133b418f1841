"""The mean of losses that are known already, as Keras takes it."""

import keras
from keras import ops

from keras_kicks.ops.keras_mask import set_mask


def sample_mean(values, sample_weight=None, mask=None):
    """Return the mean of losses over samples and positions, weighted, masked and scaled to the replicas like a loss.

    Args:
        values: Shape (batch, ...).
        sample_weight: None, or a weight for each sample or position: shape (batch,) or (batch, ...). Weights of
            finer positions than the values have are averaged.
        mask: None or shape (batch, ...); used if the values have its positions.
    """
    if sample_weight is not None:
        sample_weight = _with_rank(sample_weight, len(values.shape))
        # Keras multiplies without broadcasting a weight of lower rank as one would expect.
        sample_weight = ops.broadcast_to(ops.cast(sample_weight, values.dtype), ops.shape(values))
    if mask is not None and len(mask.shape) <= len(values.shape):
        mask = ops.broadcast_to(_with_rank(mask, len(values.shape)), ops.shape(values))
        values = set_mask(values, mask)
    return _GivenLosses(name="given_losses")(values, values, sample_weight=sample_weight)


class _GivenLosses(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_true


def _with_rank(x, rank):
    """Return `x` with trailing axes added, or the mean over the ones too many."""
    while len(x.shape) > rank:
        x = ops.mean(x, axis=-1)
    while len(x.shape) < rank:
        x = ops.expand_dims(x, axis=-1)
    return x
