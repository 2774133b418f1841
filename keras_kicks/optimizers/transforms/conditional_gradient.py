"""The direction of Frank and Wolfe."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_number
from keras_kicks.optimizers.transforms._norms import norm, safe_ratio
from keras_kicks.optimizers.transforms.transform import Transform


@keras.saving.register_keras_serializable(package="keras_kicks")
class TowardsBall(Transform):
    """Replaces the gradient of each variable by the way to the point of a ball that it points away from.

    With s the point of the ball |s| <= limit for which g s is least,

        u = w - s

    so that a chain with learning rates in (0, 1] never leaves the ball it starts in.

    Args:
        limit: Radius of the ball, > 0.
        norm: "euclidean", or "nuclear": the sum of singular values, for which s has rank 1. Kernels of more than two
            axes are taken for matrices with as many columns as their last axis.

    Returns:
        A transform for `Chain`, which remembers nothing.

    Raises:
        TypeError: `limit` is no number.
        ValueError: expected limit > 0; norm to be one of the two.

    Source:
        Frank and Wolfe 1956; Jaggi 2013; Ravi, Dinh, Lokhande and Singh 2018, arXiv:1803.06453.

    Example:
        >>> TowardsBall(10.0).get_config()
        {'limit': 10.0, 'norm': 'euclidean'}
    """

    elementwise = False

    @property
    def compiles(self):
        """Whether it compiles: TensorFlow's decomposition does not, on the CPU."""
        return self.norm == "euclidean"

    def __init__(self, limit, norm="euclidean"):
        owner = type(self).__name__
        expect_number(owner, limit=limit)
        expect(limit > 0, owner, "limit > 0", limit=limit)
        expect_choice(owner, ("euclidean", "nuclear"), norm=norm)
        self.limit, self.norm = float(limit), norm

    def update(self, gradients, state, now):
        """Replace the gradients."""
        return [w + self.limit * self._unit(g) for g, w in zip(gradients, now.values, strict=True)], state

    def _unit(self, g):
        """The point of the unit ball in the direction of the gradient; 0 where that is 0."""
        if self.norm == "euclidean" or len(g.shape) < 2:
            return g * safe_ratio(1.0, norm(g))
        u, s, v = ops.svd(ops.reshape(g, (-1, g.shape[-1])), full_matrices=False)
        rank_one = ops.matmul(u[:, :1], v[:1]) * ops.cast(s[0] > 0, g.dtype)
        return ops.reshape(rank_one, g.shape)

    def get_config(self):
        """Return the constructor arguments."""
        return {"limit": self.limit, "norm": self.norm}
