"""What the constraints to a ball have in common."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number
from keras_kicks.ops.mirror import axes_within


class Ball(keras.constraints.Constraint):
    """Moves weights that are outside of a ball to its nearest point.

    Args:
        radius: Number > 0.
        axis: Axis or axes that the norm is over; None for all.
    """

    def __init__(self, radius=1.0, axis=None):
        self.radius = checked_radius(type(self).__name__, radius)
        self.axis = _checked_axis(type(self).__name__, axis)

    def __call__(self, w):
        """Return the nearest weights."""
        w = ops.convert_to_tensor(w)
        if self.axis is not None:
            axes_within(type(self).__name__, self.axis, len(w.shape))
        # Sums of narrow weights leave their range; what is inside comes back as it was.
        wide = ops.cast(w, keras.backend.result_type(w.dtype, "float32"))
        return ops.cast(self._project(wide), w.dtype)

    def _project(self, w):
        raise NotImplementedError

    def get_config(self):
        """Return the constructor arguments."""
        return {"radius": self.radius, "axis": self.axis}


def checked_radius(owner, radius):
    """Return a radius as a float."""
    expect_number(owner, radius=radius)
    expect(radius > 0, owner, "radius > 0", radius=radius)
    return float(radius)


def _checked_axis(owner, axis):
    if axis is None:
        return None
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    for number in axes:
        expect_integer(owner, "Pass an integer, a list of them, or None for all axes.", axis=number)
    distinct = len(axes) > 0 and len(set(axes)) == len(axes)
    expect(distinct, owner, "one or more axes, none of them twice", "Pass None for all axes.", axis=axis)
    return axes if isinstance(axis, (list, tuple)) else int(axis)
