"""Where the steps of a sequence are that count, by a mask of any kind: padding behind, before or between them."""

from keras import ops


def broadcast_mask(mask, x):
    """Return a mask of the first axes of `x` with as many axes as `x`, to choose between values of its shape."""
    return ops.reshape(mask, (*ops.shape(mask), *(1,) * (len(x.shape) - len(mask.shape))))


def steps_that_count(x, mask):
    """Return which steps of a batch of sequences count, and the place of each among these.

    Args:
        x: Shape (batch, steps, ...).
        mask: Bool of shape (batch, steps), or None: all steps count.

    Returns:
        Counts of shape (batch,); ranks of shape (batch, steps), of steps that count 0, 1, 2 ... and of others anything
        from -1; and the steps in the order of (those that count, others), of shape (batch, steps). All are int32.
    """
    batch, steps = ops.shape(x)[0], ops.shape(x)[1]
    places = ops.broadcast_to(ops.arange(steps, dtype="int32")[None], (batch, steps))
    if mask is None:
        return ops.broadcast_to(ops.cast(steps, "int32"), (batch,)), places, places
    taken = ops.cast(mask, "int32")
    # Keys that differ, so that no order depends on how a backend sorts equal ones.
    order = ops.argsort(ops.where(ops.cast(mask, "bool"), places, places + steps), axis=1)
    return ops.sum(taken, axis=1), ops.cumsum(taken, axis=1) - 1, ops.cast(order, "int32")


def take_steps(x, index):
    """Return the steps of `x`, of shape (batch, steps, ...), that `index`, of shape (batch, n), names."""
    batch, steps = ops.shape(x)[0], ops.shape(x)[1]
    flat = ops.reshape(x, (-1, *ops.shape(x)[2:]))
    return ops.take(flat, index + steps * ops.arange(batch, dtype="int32")[:, None], axis=0)
