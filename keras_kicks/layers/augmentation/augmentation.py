"""What all layers that change their inputs in training have in common."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_number, expect_seed
from keras_kicks.ops.padding import broadcast_mask


class Augmentation(keras.layers.Layer):
    """Changes inputs in training alone, and never those that the mask leaves out: padding stays what it is.

    A subclass has `changed(inputs, mask)`, and says by `floating` and `least_rank` what inputs it takes. It draws from
    `seed_generator`, on every replica of a tf.distribute strategy other numbers.
    """

    floating = True
    least_rank = 2

    def __init__(self, seed=None, **kwargs):
        expect_seed(type(self).__name__, seed)
        super().__init__(**kwargs)
        self.seed = seed
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Check the shape of the inputs."""
        kinds = {2: "(batch, ..., features)", 3: "(batch, steps, features)"}
        rule = f"inputs of shape {kinds[self.least_rank]}"
        expect(len(input_shape) >= self.least_rank, type(self).__name__, rule, shape=tuple(input_shape))
        for name, value in self.numbers_of_features().items():
            count = input_shape[-1]
            rule = f"one {name} or one for each feature"
            expect(np.ndim(value) == 0 or len(value) == count, type(self).__name__, rule, features=count, given=value)
        self.built = True

    def numbers_of_features(self):
        """Return the arguments, by name, that may have a number for each feature."""
        return {}

    def call(self, inputs, mask=None, training=False):
        """Change the inputs, in training."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        rule, remedy = "floating inputs", "Cast them; for ids of categories use SwapNoise."
        floating = keras.backend.is_float_dtype(dtype) or not self.floating
        expect(floating, type(self).__name__, rule, remedy, TypeError, dtype=dtype)
        if not training:
            return inputs
        changed = ops.cast(self.changed(inputs, mask), dtype)
        if mask is None:
            return changed
        return ops.where(broadcast_mask(ops.cast(mask, "bool"), inputs), changed, inputs)

    def changed(self, inputs, mask):
        """Return changed inputs, in any floating dtype; what the mask leaves out is put back by `call`."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        """Return the input shape."""
        return input_shape

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "seed": self.seed}


def wide(x):
    """Return floating inputs in at least float32, in which noise is added, to be rounded once."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def for_features(owner, name, value, rule, holds):
    """Return a number as a float, or a sequence of numbers, one for each feature, as a list of floats.

    Raises:
        TypeError: an entry is no number.
        ValueError: one is not finite or does not keep the rule.
    """
    single = isinstance(value, (numbers.Number, str, bool)) or np.ndim(value) == 0
    listed = [value] if single else np.asarray(value).tolist()
    for entry in listed:
        expect_number(owner, **{name: entry})
        expect(holds(entry), owner, rule, **{name: entry})
    return float(value) if single else [float(entry) for entry in listed]
