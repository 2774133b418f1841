"""A recurrent network over a whole sequence, with its gradient through time written by hand.

The products with the inputs of all steps are one product before the loop, the gradients of the weights are one product
after it, and only the product with the state is left inside. What a cell does within a step is a rule
(`keras_kicks.ops.recurrence_rule.Rule`), which this file knows nothing of.
"""

import functools

import keras
from keras import ops

from keras_kicks.ops.cluster import cluster
from keras_kicks.ops.scan import scan


def recur(rule, inputs, kernel, weights, states, steps=(), constants=None, outputs=(0,), keep=True):
    """Run a rule over a sequence.

    Args:
        rule: A `Rule`, hashable.
        inputs: Shape (steps, batch, features).
        kernel: Shape (features, width): inputs @ kernel is what the rule takes; None if it takes the inputs.
        weights: Dict of the tensors that the rule uses and that get a gradient.
        states: Tuple of tensors of shape (batch, ...): the states before the first step.
        steps: Tensors of shape (steps, batch, ...) that the rule uses and that get no gradient, such as masks.
        constants: Dict of tensors that the rule uses in every step and that get no gradient.
        outputs: The indices of the states whose sequences are returned.
        keep: Whether to keep what the backward pass needs. If not, and a gradient is asked for after all, the
            forward pass runs once more.

    Returns:
        The sequences of states, of shape (steps, batch, ...), and the last states: two lists.
    """
    constants = constants or {}
    names, fixed = tuple(sorted(weights)), tuple(sorted(constants))
    kernels = () if kernel is None else (kernel,)
    steps, fixed_values = tuple(steps), tuple(constants[name] for name in fixed)
    layout = (names, fixed, len(states), len(steps), tuple(outputs))
    arguments = (inputs, *kernels, *(weights[name] for name in names), *states)

    def split(arguments):
        """Back to inputs, kernel, weights and states."""
        projected, rest = arguments[: 1 + len(kernels)], arguments[1 + len(kernels) :]
        return projected, rest[: len(names)], rest[len(names) :]

    def forward(arguments, keep):
        (inputs, *kernel), values, states = split(arguments)
        run = _forward(rule, layout, keep)
        return _split(run(_project(inputs, *kernel), *values, *states, *steps, *fixed_values), len(states))

    def returned(kept):
        return (*(kept[i][1:] for i in outputs), *(sequence[-1] for sequence in kept))

    if keras.backend.backend() == "torch":
        # Keras's custom gradients return one tensor there; torch finds the same gradients itself.
        values = returned(forward(arguments, keep=False)[0])
        return list(values[: len(outputs)]), list(values[len(outputs) :])

    @ops.custom_gradient
    def run(*arguments):
        kept, memory = forward(arguments, keep)

        def gradient(*upstream):
            upstream = keras.tree.flatten(upstream)  # JAX passes one tuple, TensorFlow its parts.
            (inputs, *kernel), values, states = split(arguments)
            sequences, remembered = (kept, memory) if keep else forward(arguments, keep=True)
            back = _backward(rule, layout)
            dx, *rest = back(*upstream, *sequences, *remembered, *values, *steps, *fixed_values)
            dstates, parts = _split(rest, len(states))
            return (*_products(rule, names, inputs, kernel, dx, parts), *dstates)

        return returned(kept), gradient

    values = run(*arguments)
    sequences, last = list(values[: len(outputs)]), list(values[len(outputs) :])
    if keras.backend.backend() == "tensorflow":
        # What was compiled by itself forgets the batch size, where it is known.
        length, batch = inputs.shape[:2]
        for sequence in sequences:
            sequence.set_shape((length, batch, *sequence.shape[2:]))
        for state in last:
            state.set_shape((batch, *state.shape[1:]))
    return sequences, last


def _split(values, count):
    return tuple(values[:count]), tuple(values[count:])


def _project(inputs, kernel=None):
    """The product with the inputs of all steps."""
    if kernel is None:
        return inputs
    flat = ops.reshape(inputs, (-1, kernel.shape[0]))
    return ops.reshape(ops.matmul(flat, kernel), (*ops.shape(inputs)[:2], kernel.shape[1]))


def _known(x, *_):
    """Compile for a known number of steps and known widths, whatever the batch."""
    return None if None in (x.shape[0], *x.shape[2:]) else (x.shape[0], *x.shape[2:])


@functools.cache
def _forward(rule, layout, keep):
    names, fixed, states, steps, _ = layout

    @functools.partial(cluster, key=_known)
    def forward(x, *rest):
        values, rest = _split(rest, len(names))
        first, rest = _split(rest, states)
        extras, rest = _split(rest, steps)
        w = dict(zip((*names, *fixed), (*values, *rest), strict=True))

        def step(states, now):
            states, kept = rule.forward(now[0], states, w, now[1:])
            return states, kept if keep else ()

        _, sequences, kept = scan(step, first, (x, *extras))
        return (*sequences, *kept)

    return forward


@functools.cache
def _backward(rule, layout):
    names, fixed, states, steps, outputs = layout

    @functools.partial(cluster, key=lambda *tensors: _known(tensors[len(outputs) + states]))
    def backward(*rest):
        upstream, rest = _split(rest, len(outputs))
        last, rest = _split(rest, states)
        sequences, rest = _split(rest, states)
        kept, rest = _split(rest, len(rest) - len(names) - steps - len(fixed))
        values, rest = _split(rest, len(names))
        extras, rest = _split(rest, steps)
        w = rule.prepare(dict(zip((*names, *fixed), (*values, *rest), strict=True)))
        before = tuple(sequence[:-1] for sequence in sequences)

        def step(dstates, now):
            d, now = _split(now, len(outputs))
            states_now, now = _split(now, states)
            kept_now, extras_now = _split(now, len(kept))
            dstates = list(dstates)
            for i, gradient in zip(outputs, d, strict=True):
                dstates[i] = dstates[i] + gradient
            dx, dstates, more = rule.backward(states_now, kept_now, w, extras_now, tuple(dstates))
            return dstates, (dx, *more)

        dstates, _, (dx, *more) = scan(
            step, last, (*upstream, *before, *kept, *extras), reverse=True, keep_states=False
        )
        gradients = rule.finish(before, kept, dx, tuple(more), w)
        parts = []
        for name in names:
            parts += gradients[name] if name in rule.products else [gradients[name]]
        return (dx, *dstates, *parts)

    return backward


def _products(rule, names, inputs, kernel, dx, parts):
    """The gradients by inputs, kernel and weights from the factors of those that are products over all steps."""
    parts = list(parts)
    gradients, beside = [], None
    for name in names:
        if name not in rule.products:
            gradients.append(parts.pop(0))
            continue
        left, right = parts.pop(0), parts.pop(0)
        if right is None and kernel and beside is None:
            beside, right = (len(gradients), left), dx
            gradients.append(None)
        else:
            gradients.append(_outer(left, dx if right is None else right))
    if not kernel:
        return (dx, *gradients)
    (kernel,) = kernel
    dinputs = _project(dx, ops.transpose(kernel))
    if beside is None:
        return (dinputs, _outer(inputs, dx), *gradients)
    # Both have the same right factor: one product for the two.
    index, left = beside
    both = _outer(ops.concatenate([inputs, left], axis=-1), dx)
    gradients[index] = both[kernel.shape[0] :]
    return (dinputs, both[: kernel.shape[0]], *gradients)


def _outer(left, right):
    """Sum over all steps and the batch of the outer products."""
    left, right = (ops.reshape(x, (-1, x.shape[-1])) for x in (left, right))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.matmul(left, right, transpose_a=True)  # Without a copy of the transposed, also eagerly.
    return ops.matmul(ops.transpose(left), right)
