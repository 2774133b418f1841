"""Sequences in chunks of a fixed number of steps, in a loop that does not grow with their length."""

from keras_kicks.ops.keras_mask import get_mask, set_mask


def run_chunks(body, carried, length, size, before=0):
    """Run `carried = body(carried, start, steps, lead)` for each chunk of a sequence, in order.

    Args:
        body: Function of a list of tensors, the first step of the chunk, the number of its steps, and the number of
            steps before it that are to be looked at too; it returns a list of tensors of the same shapes.
        carried: List of tensors.
        length: The number of steps: an integer, or a scalar tensor where it is unknown.
        size: Steps of a chunk; the last one has what is left.
        before: Chunks to look at before each one, where they exist; with more than 0 the length must be an integer.

    Returns:
        What the last call returned.
    """
    import tensorflow as tf

    known = isinstance(length, int)
    full = length // size
    first = min(before, full) if known else 0
    for index in range(first):
        carried = body(carried, index * size, size, index * size)

    def loop(index, *carried):
        return (index + 1, *body(list(carried), index * size, size, before * size))

    if not known or full > first:
        _, *carried = tf.while_loop(
            lambda index, *_: index < full,
            loop,
            (tf.constant(first), *carried),
            # Weights are changed in the loop: one after the other.
            parallel_iterations=1,
        )
    rest, start = length - full * size, full * size
    if known:
        lead = min(before, full) * size
        return body(list(carried), start, rest, lead) if rest > 0 else list(carried)
    return list(tf.cond(rest > 0, lambda: tuple(body(list(carried), start, rest, 0)), lambda: tuple(carried)))


def cut(tensors, start, steps):
    """Return `steps` steps, from `start` on, of the tensors of a nest that have two axes or more, (batch, steps)."""
    import tensorflow as tf

    def one(x):
        if x is None or x.shape.rank < 2:
            return x
        piece = tf.slice(x, [0, start, *[0] * (x.shape.rank - 2)], [-1, steps, *[-1] * (x.shape.rank - 2)])
        piece.set_shape([x.shape[0], steps if isinstance(steps, int) else None, *x.shape[2:]])
        return piece

    return tf.nest.map_structure(one, tensors)


def steps_as_samples(tensors, steps):
    """Join the first two axes, (batch, steps, ...), of the tensors of a nest and of their masks; repeat (batch,)."""
    import tensorflow as tf

    def one(x):
        if x is None:
            return x
        if x.shape.rank < 2:
            return tf.repeat(x, steps)
        flat, mask = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0)), get_mask(x)
        flat.set_shape([None, *x.shape[2:]])
        return flat if mask is None else set_mask(flat, tf.reshape(mask, [-1]))

    return tf.nest.map_structure(one, tensors)
