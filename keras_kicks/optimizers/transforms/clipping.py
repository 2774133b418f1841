"""Clipping by a fixed limit."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.optimizers.transforms._norms import global_norm, norm
from keras_kicks.optimizers.transforms.transform import Transform


class Clip(Transform):
    """Base class of the clipping transforms: it counts how often something was clipped.

    It remembers "norm", that of all gradients of the last step before clipping; "clipped", the number of steps in
    which anything was clipped; and "steps".
    """

    def own(self):
        """Return what is remembered."""
        return {"norm": ((), 0.0, "float32"), "clipped": ((), 0, "int32"), "steps": ((), 0, "int32")}

    def clip(self, gradients, state, now):
        """Return the clipped gradients, whether any was, and the new state."""
        raise NotImplementedError

    def update(self, gradients, state, now):
        """Clip the gradients of all variables."""
        state["norm"] = global_norm(gradients)
        clipped, any_clipped, state = self.clip(gradients, state, now)
        state["clipped"] = state["clipped"] + ops.cast(any_clipped, "int32")
        state["steps"] = state["steps"] + 1
        return clipped, state


class FixedClip(Clip):
    """Base class of those with a limit."""

    def __init__(self, limit):
        owner = type(self).__name__
        expect_number(owner, limit=limit)
        expect(limit > 0, owner, "limit > 0", limit=limit)
        self.limit = float(limit)

    def get_config(self):
        """Return the constructor arguments."""
        return {"limit": self.limit}


@keras.saving.register_keras_serializable(package="keras_kicks")
class ClipByGlobalNorm(FixedClip):
    """Shortens the gradient of all variables, taken for one vector.

    With n the norm of that vector,

        u = (limit / n) g    where n > limit

    Args:
        limit: Greatest norm, > 0.

    Returns:
        A transform for `Chain`. It remembers "norm" (n of the last step), "clipped" (in how many steps n was greater
        than the limit) and "steps".

    Raises:
        TypeError: `limit` is no number.
        ValueError: expected limit > 0.

    Source:
        Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, algorithm 1.

    Example:
        >>> ClipByGlobalNorm(1.0).get_config()
        {'limit': 1.0}
    """

    def clip(self, gradients, state, now):
        """Shorten the gradients of all variables by one factor."""
        scale = self.limit / ops.maximum(state["norm"], self.limit)
        return [g * ops.cast(scale, g.dtype) for g in gradients], state["norm"] > self.limit, state


@keras.saving.register_keras_serializable(package="keras_kicks")
class ClipByNorm(FixedClip):
    """Shortens the gradient of each variable by itself.

    With n the norm of a variable's gradient,

        u = (limit / n) g    where n > limit

    Args:
        limit: Greatest norm, > 0.

    Returns:
        A transform for `Chain`, which remembers what `ClipByGlobalNorm` does.

    Raises:
        TypeError: `limit` is no number.
        ValueError: expected limit > 0.

    Source:
        Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, variable by variable.

    Example:
        >>> ClipByNorm(1.0).get_config()
        {'limit': 1.0}
    """

    elementwise = False

    def clip(self, gradients, state, now):
        """Shorten each gradient."""
        norms = [norm(g) for g in gradients]
        clipped = [g * (self.limit / ops.maximum(n, self.limit)) for g, n in zip(gradients, norms, strict=True)]
        return clipped, ops.any(ops.stack([n > self.limit for n in norms])), state


@keras.saving.register_keras_serializable(package="keras_kicks")
class ClipByValue(FixedClip):
    """Limits each element of the gradients.

        u = min(max(g, -limit), limit)

    Args:
        limit: Greatest absolute value, > 0.

    Returns:
        A transform for `Chain`, which remembers what `ClipByGlobalNorm` does.

    Raises:
        TypeError: `limit` is no number.
        ValueError: expected limit > 0.

    Source:
        Mikolov 2012, "Statistical language models based on neural networks", section 3.3.

    Example:
        >>> ClipByValue(0.5).get_config()
        {'limit': 0.5}
    """

    def clip(self, gradients, state, now):
        """Limit each element."""
        clipped = [ops.clip(g, -self.limit, self.limit) for g in gradients]
        return clipped, ops.any(ops.stack([ops.any(ops.abs(g) > self.limit) for g in gradients])), state
