"""Gradient centralization."""

import keras
from keras import ops

from keras_kicks.optimizers.transforms.transform import Transform, checked_paths


@keras.saving.register_keras_serializable(package="keras_kicks")
class CentralizeGradient(Transform):
    """Subtracts from the gradient of each unit its mean.

        u = g - mean(g)    over all axes but the last, for kernels; vectors are left alone

    Args:
        exclude: List of strings; variables with any of them in their path are left alone.

    Returns:
        A transform for `Chain`, which remembers nothing.

    Raises:
        TypeError: `exclude` is no list of strings.

    Source:
        Yong, Huang, Hua and Zhang 2020, arXiv:2004.01461, equation 1.

    Example:
        >>> CentralizeGradient().get_config()
        {'exclude': []}
    """

    elementwise = False

    def __init__(self, exclude=()):
        self.exclude = checked_paths(type(self).__name__, exclude)

    def update(self, gradients, state, now):
        """Subtract the means."""
        chosen = now.chosen(self.exclude)
        return [_centred(g) if c else g for g, c in zip(gradients, chosen, strict=True)], state

    def get_config(self):
        """Return the constructor arguments."""
        return {"exclude": self.exclude}


def _centred(g):
    rank = len(g.shape)
    return g - ops.mean(g, axis=tuple(range(rank - 1)), keepdims=True) if rank > 1 else g
