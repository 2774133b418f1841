"""Maxout activation."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer
from keras_kicks.ops.maxout import maxout

GROUPINGS = ("consecutive", "strided")


@keras.saving.register_keras_serializable(package="keras_kicks")
class Maxout(keras.layers.Layer):
    """Maximum over groups of features: the activation that is learned by the layer before it.

        y_j = max(x_i for i in group j),   |group j| = pool_size

    Groups lie side by side, group j = {j k, ..., j k + k - 1} with k = pool_size, or strided, group j = {j, j + m, ...,
    j + (k - 1) m} with m groups in all. A linear layer followed by Maxout is a convex piecewise linear function of
    its input: ReLU, |x| and x^2 (as closely as the pieces allow) are examples.

    Args:
        pool_size: Features in a group, >= 1; divides the length of `axis`.
        axis: Integer, the feature axis; not 0, the batch axis.
        grouping: "consecutive", or "strided" as in TensorFlow Addons.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Rank 2 or more, floating, the length of `axis` known.

    Returns:
        The shape of `inputs` with the length of `axis` divided by pool_size, in the compute dtype. On a tie the
        gradient goes to the first of the largest entries.

    Raises:
        TypeError: `pool_size` or `axis` is no integer.
        ValueError: expected pool_size >= 1; axis other than 0; a known grouping; pool_size to divide the length of
            axis, known when the layer is built.

    Masking:
        The mask is passed on.

    Source:
        Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout Networks", 2013, arXiv:1302.4389.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0, 2.0, 3.0, 4.0]])
        >>> keras.ops.convert_to_numpy(Maxout(2)(x)).tolist()
        [[2.0, 4.0]]
        >>> keras.ops.convert_to_numpy(Maxout(2, grouping="strided")(-x)).tolist()
        [[-1.0, -2.0]]
    """

    def __init__(self, pool_size, axis=-1, grouping="consecutive", **kwargs):
        owner = type(self).__name__
        expect_integer(owner, pool_size=pool_size, axis=axis)
        expect(pool_size >= 1, owner, "pool_size >= 1", pool_size=pool_size)
        expect(axis != 0, owner, "axis other than 0, the batch axis", axis=axis)
        expect_choice(owner, GROUPINGS, grouping=grouping)
        super().__init__(**kwargs)
        self.pool_size = int(pool_size)
        self.axis = int(axis)
        self.grouping = grouping
        self.supports_masking = True

    def build(self, input_shape):
        """Check that the groups fit."""
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        """Take the maximum of each group."""
        axis = self.axis % len(inputs.shape)
        if axis == len(inputs.shape) - 1:
            return maxout(inputs, self.pool_size, self.grouping)
        moved = maxout(ops.moveaxis(inputs, axis, -1), self.pool_size, self.grouping)
        return ops.moveaxis(moved, -1, axis)

    def compute_output_shape(self, input_shape):
        """Return the input shape with the length of `axis` divided by `pool_size`."""
        owner, rank, shape = type(self).__name__, len(input_shape), tuple(input_shape)
        fits = rank >= 2 and -rank < self.axis < rank
        expect(fits, owner, "an input of rank 2 or more that has the axis", axis=self.axis, input_shape=shape)
        length = shape[self.axis]
        expect(length is not None, owner, "a known length of axis", axis=self.axis, input_shape=shape)
        expect(
            length % self.pool_size == 0,
            owner,
            "pool_size to divide the length of axis",
            f"Make it a multiple of {self.pool_size} in the layer before.",
            pool_size=self.pool_size,
            input_shape=shape,
        )
        axis = self.axis % rank
        return (*shape[:axis], length // self.pool_size, *shape[axis + 1 :])

    def get_config(self):
        """Return the constructor arguments."""
        config = {"pool_size": self.pool_size, "axis": self.axis, "grouping": self.grouping}
        return {**super().get_config(), **config}
