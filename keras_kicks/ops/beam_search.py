"""Search for the most probable sequence of a model that predicts one token after another."""

import math

from keras import ops


def length_penalty(length, alpha):
    """Return ((5 + length) / 6) ^ alpha, which a log-probability is divided by (Wu et al. 2016, arXiv:1609.08144)."""
    return ((5.0 + length) / 6.0) ** alpha


def beam_search(step, states, first, steps, vocabulary_size, width, end=None, pad=0, alpha=0.0, counts=None):
    """Keep the `width` best beginnings of each sample, and extend them step by step.

    The score of a sequence is its log-probability over `length_penalty`, the end token included. A beginning that has
    ended competes with the score that it has. The search stops when all have ended.

    Args:
        step: Function of the last tokens, of shape (n,), a tuple of states of shape (n, ...) and the index of the step;
            n = batch * width, the beginnings of a sample side by side. It returns log-probabilities of shape
            (n, vocabulary_size) in float32, and the tuple of new states.
        states: Tuple of tensors of shape (batch, ...).
        first: What precedes the first step, int32, shape (batch,).
        steps: Number of steps, an integer or a scalar tensor.
        vocabulary_size: Number of tokens.
        width: Number of beginnings to keep, >= 1.
        end: The token that ends a sequence, or None.
        pad: The token to write after it, and in steps that do not count.
        alpha: Exponent of the length penalty, >= 0; 0 for none.
        counts: Boolean, shape (batch, steps): the steps that count, or None if all do.

    Returns:
        Tokens of shape (batch, width, steps), int32, and scores of shape (batch, width), float32, the best first. Where
        there are fewer sequences than `width`, the score of what is left is -inf.
    """
    batch = ops.shape(first)[0]
    rows = ops.expand_dims(ops.arange(batch, dtype="int32") * width, -1)
    stay = ops.where(ops.arange(vocabulary_size) == pad, 0.0, -math.inf)

    def repeated(x):
        return ops.repeat(x, width, axis=0)

    def goes_on(t, tokens, ended, *_):
        return ops.logical_and(t < steps, ops.logical_not(ops.all(ended)))

    def extend(t, tokens, ended, total, length, last, *states):
        frozen = ended
        log_probs, after = step(last, states, t)
        if counts is not None:
            frozen = ops.logical_or(ended, ops.logical_not(repeated(ops.take(counts, t, axis=1))))
            after = [ops.where(_wide(frozen, new), old, new) for old, new in zip(states, after, strict=True)]
        # What is frozen goes on with padding alone, which is certain.
        sums = ops.expand_dims(total, -1) + ops.where(ops.expand_dims(frozen, -1), stay, log_probs)
        length = length + ops.cast(ops.logical_not(frozen), "float32")
        scores = sums / ops.expand_dims(length_penalty(length, alpha), -1)
        _, best = ops.top_k(ops.reshape(scores, (-1, width * vocabulary_size)), width)
        best = ops.cast(best, "int32")
        parent = ops.reshape(rows + best // vocabulary_size, (-1,))
        token = ops.reshape(best % vocabulary_size, (-1,))
        total = ops.take(ops.reshape(sums, (-1,)), parent * vocabulary_size + token)
        frozen, ended, length, last, tokens, *states = (
            ops.take(x, parent, axis=0) for x in (frozen, ended, length, last, tokens, *after)
        )
        if end is not None:
            ended = ops.logical_or(ended, ops.logical_and(token == end, ops.logical_not(frozen)))
        last = ops.where(frozen, last, token)
        tokens = ops.where(ops.arange(steps) == t, ops.expand_dims(token, -1), tokens)
        return (t + 1, tokens, ended, total, length, last, *states)

    # At first there is one beginning, and no other to choose.
    total = ops.where(ops.arange(width) == 0, 0.0, -math.inf)
    total = ops.reshape(ops.broadcast_to(total, (batch, width)), (-1,))
    last = repeated(first)
    begin = (
        ops.convert_to_tensor(0, dtype="int32"),
        ops.full((batch * width, steps), pad, dtype="int32"),
        ops.zeros((batch * width,), dtype="bool"),
        total,
        ops.zeros((batch * width,), dtype="float32"),
        last,
        *(repeated(state) for state in states),
    )
    _, tokens, _, total, length, *_ = ops.while_loop(goes_on, extend, begin)
    scores = total / length_penalty(length, alpha)
    return ops.reshape(tokens, (-1, width, steps)), ops.reshape(scores, (-1, width))


def _wide(condition, value):
    """Of shape (n,), with as many more axes as `value` has."""
    return ops.reshape(condition, (-1, *[1] * (len(value.shape) - 1)))
