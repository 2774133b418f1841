"""A loop over the first axis that keeps every state, on each backend; its graph does not grow with the length."""

import keras
from keras import ops


def scan(step, states, xs, reverse=False, keep_states=True):
    """Run `states, ys = step(states, xs_t)` for each t, and stack what it returns.

    Args:
        step: Function of a tuple of tensors and a tuple of tensors that returns two tuples of tensors; the first has
            the shapes and dtypes of its argument.
        states: Tuple of tensors, the states before the first step.
        xs: Tuple of tensors of shape (steps, ...), at least one of them and at least one step.
        reverse: Whether to run from the last step to the first. Stacks keep the order of `xs`.
        keep_states: Whether to stack the states too.

    Returns:
        The states after the last step that ran; the stacked states, of shape (steps + 1, ...), those at index t from
        before step t, or, in reverse, from after it (an empty tuple without `keep_states`); and the stacked ys.
    """
    run = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    return run(step, tuple(states), tuple(xs), reverse, keep_states)


def _tensorflow(step, states, xs, reverse, keep_states):
    import tensorflow as tf

    length = xs[0].shape[0] if xs[0].shape[0] is not None else tf.shape(xs[0])[0]
    reads = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in xs]
    first, stride = (length - 1, -1) if reverse else (0, 1)
    before, after = (1, 0) if reverse else (0, 1)

    def arrays(values, size):
        return tuple(tf.TensorArray(v.dtype, size, element_shape=v.shape) for v in values)

    def write(stacks, index, values):
        return tuple(stack.write(index, value) for stack, value in zip(stacks, values, strict=True))

    def body(t, states, kept, stacks):
        states, ys = step(states, tuple(read.read(t) for read in reads))
        kept = write(kept, t + after, states) if keep_states else kept
        return t + stride, states, kept, write(stacks, t, ys)

    # The first step runs before the loop: what it returns says what is to be stacked.
    start = states
    states, ys = step(start, tuple(read.read(first) for read in reads))
    kept = ()
    if keep_states:
        kept = write(arrays(start, length + 1), first + before, start)
        kept = write(kept, first + after, states)
    stacks = write(arrays(ys, length), first, ys)
    _, states, kept, stacks = tf.while_loop(
        lambda t, *_: t >= 0 if reverse else t < length,
        body,
        (first + stride, states, kept, stacks),
        maximum_iterations=length - 1,
    )
    return states, tuple(stack.stack() for stack in kept), tuple(stack.stack() for stack in stacks)


def _jax(step, states, xs, reverse, keep_states):
    from jax import lax

    def body(states, x):
        states, ys = step(states, x)
        return states, (states if keep_states else (), ys)

    last, (kept, ys) = lax.scan(body, states, xs, reverse=reverse)
    parts = [(one[None], many) for one, many in zip(states, kept, strict=False)]
    return last, tuple(ops.concatenate(part[::-1] if reverse else part, axis=0) for part in parts), ys


def _torch(step, states, xs, reverse, keep_states):
    kept, rows = [states], []
    order = range(xs[0].shape[0])
    for t in reversed(order) if reverse else order:
        states, ys = step(states, tuple(x[t] for x in xs))
        kept.append(states)
        rows.append(ys)
    if reverse:
        kept, rows = kept[::-1], rows[::-1]
    stacks = tuple(ops.stack(column) for column in zip(*kept, strict=True)) if keep_states else ()
    return states, stacks, tuple(ops.stack(column) for column in zip(*rows, strict=True))
