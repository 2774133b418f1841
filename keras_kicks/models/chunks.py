"""Sequences in chunks of a fixed number of steps, in a loop that does not grow with their length."""

import keras

from keras_kicks.ops.keras_mask import get_mask, set_mask
from keras_kicks.ops.scan import scan


def run_chunks(body, carried, length, size, before=0, compiled=False):
    """Run `carried = body(carried, start, steps, lead)` for each chunk of a sequence, in order.

    Args:
        body: Function of a list of tensors, the first step of the chunk, the number of its steps, and the number of
            steps before it that are to be looked at too; it returns a list of tensors of the same shapes.
        carried: List of tensors.
        length: The number of steps: an integer, or a scalar tensor where it is unknown.
        size: Steps of a chunk; the last one has what is left.
        before: Chunks to look at before each one, where they exist.
        compiled: Whether XLA compiles the loop. It wants `lead` to be a number, so that the graph has each of the first
            `before` chunks, and `length` must be an integer if there are any; else it has the first alone, and `lead`
            is a tensor.

    Returns:
        What the last call returned.
    """
    import tensorflow as tf

    known = isinstance(length, int)
    full = length // size
    ahead = before if compiled else min(before, 1)
    first = min(ahead, full) if known else ahead
    for index in range(first):
        carried = body(carried, index * size, size if known else tf.minimum(size, length), index * size)

    def lead(index):
        return before * size if ahead == before else tf.minimum(index, before) * size

    def loop(index, *carried):
        return (index + 1, *body(list(carried), index * size, size, lead(index)))

    if not known or full > first:
        _, *carried = tf.while_loop(
            lambda index, *_: index < full,
            loop,
            (tf.constant(first), *carried),
            # Weights are changed in the loop: one after the other.
            parallel_iterations=1,
        )
    if known:
        rest, start = length - full * size, full * size
        return body(list(carried), start, rest, min(before, full) * size) if rest > 0 else list(carried)
    full = tf.maximum(full, first)
    rest, start = length - full * size, full * size
    return list(tf.cond(rest > 0, lambda: tuple(body(list(carried), start, rest, lead(full))), lambda: tuple(carried)))


def run_pieces(body, states, tensors, length, size):
    """Run `states, outputs = body(states, tensors)` on pieces of a sequence, and join the outputs.

    Args:
        body: Function of a tuple of states and a nest like `tensors` of which each has `size` steps; it returns a tuple
            of states and a list of tensors of as many steps. What it returns for a step must not depend on later ones.
        states: Tuple of tensors.
        tensors: Nest of tensors of shape (batch, steps, ...) and None.
        length: The number of steps: an integer, or a scalar tensor where it is unknown.
        size: Steps of a piece.

    Returns:
        List of tensors of shape (batch, steps, ...).
    """
    import tensorflow as tf

    count = -(-length // size)

    def pieces(x):
        # Zeros after the end: no step before it knows of them.
        x = tf.pad(x, [[0, 0], [0, count * size - length], *[[0, 0]] * (x.shape.rank - 2)])
        rows = tf.reshape(x, tf.concat([tf.shape(x)[:1], [count, size], tf.shape(x)[2:]], axis=0))
        rows.set_shape([x.shape[0], None, size, *x.shape[2:]])
        return tf.transpose(rows, [1, 0, *range(2, rows.shape.rank)])

    given = [x for x in keras.tree.flatten(tensors) if x is not None]

    def step(states, now):
        now = iter(now)
        states, outputs = body(states, keras.tree.map_structure(lambda x: None if x is None else next(now), tensors))
        return tuple(states), tuple(outputs)

    _, _, stacks = scan(step, states, [pieces(x) for x in given], keep_states=False)

    def join(stack):
        rows = tf.transpose(stack, [1, 0, *range(2, stack.shape.rank)])
        whole = tf.reshape(rows, tf.concat([tf.shape(rows)[:1], [count * size], tf.shape(rows)[3:]], axis=0))
        return whole[:, :length]

    return [join(stack) for stack in stacks]


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
