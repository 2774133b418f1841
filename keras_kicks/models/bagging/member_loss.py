"""What the loss of a member is made of."""

import keras
from keras import ops


def added(penalties):
    """Return the sum of penalties, in float32."""
    return sum((ops.sum(ops.cast(penalty, "float32")) for penalty in penalties), start=ops.zeros(()))


def weights_times(sample_weight, count, y_pred):
    """Return sample weights times the counts of the samples; None for neither."""
    if count is None:
        return sample_weight

    def spread(rank):
        return ops.reshape(count, (-1, *[1] * max(0, rank - 1)))

    if sample_weight is None:
        return keras.tree.map_structure(lambda output: spread(len(output.shape) - 1), y_pred)
    return keras.tree.map_structure(
        lambda weight: count if weight is None else ops.cast(weight, "float32") * spread(len(weight.shape)),
        sample_weight,
    )
