"""What the predictions at test points are compared with."""

import numpy as np

from keras_kicks._errors import expect


def checked_targets(owner, targets, shape, exact):
    """Return targets of shape (observations, points, outputs).

    Args:
        owner: Name of the function that asks.
        targets: Of the shape of the predictions, where a last axis of 1 may be missing; or, if not exact, of several
            observations of these.
        shape: Of the predictions.
        exact: Whether they have no noise.
    """
    targets = np.asarray(targets)
    expect(targets.dtype.kind in "iuf", owner, "targets that are numbers", dtype=str(targets.dtype))
    shapes = [shape, shape[:-1]] if len(shape) > 1 and shape[-1] == 1 else [shape, (*shape, 1)]
    several = not exact and targets.shape not in shapes and targets.shape[1:] in shapes
    remedy = "These are the predictions of x_test."
    fits = targets.shape in shapes or several
    expect(fits, owner, f"targets of shape {shape}", remedy, shape=targets.shape)
    expect(bool(np.isfinite(targets).all()), owner, "finite targets", targets="not finite")
    return targets.astype("float64").reshape(len(targets) if several else 1, shape[0], -1)


def checked_noise(owner, noise, points, observations):
    """Return the variance of the noise at each point, or None."""
    if noise is None:
        return None
    remedy = "Of several observations the noise is estimated."
    expect(observations == 1, owner, "no noise beside several observations", remedy, noise=noise)
    array = np.asarray(noise)
    fits = array.dtype.kind in "iuf" and array.shape in ((), (points,))
    expect(fits, owner, "a number for noise, or one for each point", error=TypeError, noise=noise)
    expect(bool(np.isfinite(array).all() and (array >= 0).all()), owner, "a finite noise >= 0", noise=noise)
    return np.broadcast_to(array.astype("float64"), (points,))
