"""Adaptive gradient clipping."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.optimizers.transforms._norms import norm
from keras_kicks.optimizers.transforms.clipping import Clip
from keras_kicks.optimizers.transforms.transform import checked_paths


@keras.saving.register_keras_serializable(package="keras_kicks")
class AdaptiveClip(Clip):
    """Limits the gradient of each unit to a share of the size of its weights.

    With G_i and W_i the gradient and the weights of unit i, which are all but the last axis of a kernel, or the whole
    of a vector,

        u_i = limit * max(|W_i|, epsilon) / |G_i| * G_i    where |G_i| > limit * max(|W_i|, epsilon)

    Args:
        limit: Greatest ratio of the norms, > 0.
        epsilon: Least norm of weights that is taken for one, > 0, so that weights of zero can be trained.
        exclude: List of strings; variables with any of them in their path are left alone, such as the last layer's.

    Returns:
        A transform for `Chain`, which remembers what `ClipByGlobalNorm` does.

    Raises:
        TypeError: a number is none; `exclude` is no list of strings.
        ValueError: expected limit > 0; epsilon > 0.

    Source:
        Brock, De, Smith and Simonyan 2021, arXiv:2102.06171, equation 3.

    Example:
        >>> AdaptiveClip(exclude=["classifier"]).get_config()
        {'limit': 0.01, 'epsilon': 0.001, 'exclude': ['classifier']}
    """

    elementwise = False

    def __init__(self, limit=0.01, epsilon=1e-3, exclude=()):
        owner = type(self).__name__
        expect_number(owner, limit=limit, epsilon=epsilon)
        expect(limit > 0, owner, "limit > 0", limit=limit)
        expect(epsilon > 0, owner, "epsilon > 0", epsilon=epsilon)
        self.limit, self.epsilon, self.exclude = float(limit), float(epsilon), checked_paths(owner, exclude)

    def clip(self, gradients, state, now):
        """Shorten the gradient of each unit."""
        clipped, over = [], []
        for g, w, chosen in zip(gradients, now.values, now.chosen(self.exclude), strict=True):
            if not chosen:
                clipped.append(g)
                continue
            axis = tuple(range(len(g.shape) - 1)) if len(g.shape) > 1 else None
            greatest = self.limit * ops.maximum(norm(w, axis, keepdims=True), self.epsilon)
            size = norm(g, axis, keepdims=True)
            clipped.append(g * (greatest / ops.maximum(size, greatest)))
            over.append(ops.any(size > greatest))
        return clipped, ops.any(ops.stack(over)) if over else False, state

    def get_config(self):
        """Return the constructor arguments."""
        return {"limit": self.limit, "epsilon": self.epsilon, "exclude": self.exclude}
