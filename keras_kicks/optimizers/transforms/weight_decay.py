"""Weight decay as a link of a chain."""

import keras

from keras_kicks._errors import expect, expect_number
from keras_kicks.optimizers.transforms.transform import Transform, checked_paths


@keras.saving.register_keras_serializable(package="keras_kicks")
class AddDecayedWeights(Transform):
    """Adds a share of the weights to the updates.

        u = g + weight_decay w

    After `ScaleByAdam` that is decoupled weight decay (AdamW), before it an L2 penalty.

    Args:
        weight_decay: The share, >= 0.
        exclude: List of strings; variables with any of them in their path are left alone, such as "bias".

    Returns:
        A transform for `Chain`, which remembers nothing.

    Raises:
        TypeError: `weight_decay` is no number; `exclude` is no list of strings.
        ValueError: expected weight_decay >= 0.

    Source:
        Loshchilov and Hutter 2019, arXiv:1711.05101.

    Example:
        >>> AddDecayedWeights(0.01, exclude=["bias"]).get_config()
        {'weight_decay': 0.01, 'exclude': ['bias']}
    """

    def __init__(self, weight_decay, exclude=()):
        owner = type(self).__name__
        expect_number(owner, weight_decay=weight_decay)
        expect(weight_decay >= 0, owner, "weight_decay >= 0", weight_decay=weight_decay)
        self.weight_decay, self.exclude = float(weight_decay), checked_paths(owner, exclude)

    def update(self, gradients, state, now):
        """Add the weights."""
        chosen = now.chosen(self.exclude)
        decayed = [g + self.weight_decay * w if c else g for g, w, c in zip(gradients, now.values, chosen, strict=True)]
        return decayed, state

    @property
    def elementwise(self):
        """Whether no variable is told from another."""
        return not self.exclude

    def get_config(self):
        """Return the constructor arguments."""
        return {"weight_decay": self.weight_decay, "exclude": self.exclude}
