"""The proximal step of the Euclidean norm, where each element has a step size of its own."""

from keras import ops

# Newton's method doubles the digits in each step; it is the way to where they begin that takes some.
MOST_STEPS = 50


def norm_prox(x, pull, damping):
    """Return the w where sum (damping w - x)^2 / (2 pull damping) + |w| is least, |w| the Euclidean norm.

    With n = |w|, w = x n / (damping n + pull), and n is the root of

        h(n) = (sum x^2 / (damping n + pull)^2)^(-1/2) = 1,

    or 0 if h(0) >= 1. As a mean of order -2 of linear functions, h is concave: Newton's steps from below never pass the
    root, and where all elements have the same step size the first guess is the root.

    Args:
        x: Floating tensor.
        pull: Positive tensor, of a shape that broadcasts to that of `x`: the step size times the weight of the norm.
        damping: The same, >= 1.

    Returns:
        The shape and dtype of `x`.
    """
    tiny = ops.convert_to_tensor(1e-30, x.dtype)
    length = ops.sqrt(ops.sum(ops.square(x)))
    start = ops.maximum((length - ops.max(pull)) / ops.max(damping), 0.0)

    if not (pull.shape or damping.shape):
        return x * (start / ops.maximum(damping * start + pull, tiny))

    def unfinished(norm, moved, steps):
        return ops.logical_and(moved > 1e-6 * norm, steps < MOST_STEPS)

    def step(norm, moved, steps):
        scale = ops.maximum(damping * norm + pull, tiny)
        squares = ops.square(x / scale)
        total, slope = ops.sum(squares), ops.sum(squares * (damping / scale))
        moved = ops.maximum((ops.sqrt(total) - 1) * total / ops.maximum(slope, tiny), 0.0)
        return norm + moved, moved, steps + 1

    # Not done before the first step, not even at 0.
    first = (start, start + 1.0, ops.convert_to_tensor(0))
    norm = ops.while_loop(unfinished, step, first)[0]
    return x * (norm / ops.maximum(damping * norm + pull, tiny))
