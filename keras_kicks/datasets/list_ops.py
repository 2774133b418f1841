"""ListOps: nested operations on lists of digits, a task that needs the right tree."""

import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_number, expect_seed

# The tokens of a sequence, by id.
LIST_OPS_TOKENS = (*"0123456789", "[MAX", "[MIN", "[MED", "[SM", "]")
MAX, MIN, MED, SUM_MOD, CLOSE = range(10, 15)


def list_ops(samples, seed=None, max_depth=20, max_args=5, operator_rate=0.25, max_tokens=None, exclude=()):
    """Draw different expressions such as [MAX 2 9 [MIN 4 7 ] 0 ], and their values.

    An argument is an operator with `operator_rate`, on whom two to `max_args` arguments follow, and a digit else; at
    `max_depth` it is a digit. Operators are the maximum MAX, the minimum MIN, the median MED, which is rounded down
    between two values, and SM, the sum modulo 10. Every value is a digit.

    Args:
        samples: Number of expressions, >= 1.
        seed: Seed of `numpy.random.default_rng`: the same expressions for the same seed.
        max_depth: Depth of the deepest digit, >= 2, with the depth of the whole expression 1.
        max_args: Most arguments of an operator, >= 2.
        operator_rate: Probability of an operator, in [0, 1).
        max_tokens: Longest sequence of an expression, closing brackets included, >= 4; None for no limit.
        exclude: Expressions that are not to be drawn, such as those to train on when drawing those to test on.

    Returns:
        trees: List of expressions, none twice: tuples (operator, argument, ...) with the token's ids for operators and
            digits, `LIST_OPS_TOKENS`: 0 to 9 are the digits. They are what `tree_tensors` takes with inner_labels=True.
        values: int32 array of shape (samples,).

    Raises:
        TypeError: a number is none; `seed` is neither None nor an integer.
        ValueError: expected samples >= 1; max_depth >= 2; max_args >= 2; 0 <= operator_rate < 1; max_tokens >= 4; as
            many different expressions as were asked for.

    Source:
        Nangia and Bowman 2018, arXiv:1804.06028, with the numbers of the published generator: 0.25, 5 and 20, the
        median cut to an integer, and no expression twice. Departure: an expression begins with an operator. A digit
        alone, three of four draws there, can only be ten of its million expressions.

    Example:
        >>> trees, values = list_ops(1000, seed=0)
        >>> len(set(trees)), values.shape
        (1000, (1000,))
    """
    owner = "list_ops"
    expect_integer(owner, samples=samples, max_depth=max_depth, max_args=max_args)
    expect_seed(owner, seed)
    expect_number(owner, operator_rate=operator_rate)
    for name, value, least in (("samples", samples, 1), ("max_depth", max_depth, 2), ("max_args", max_args, 2)):
        expect(value >= least, owner, f"{name} >= {least}", **{name: value})
    expect(0 <= operator_rate < 1, owner, "0 <= operator_rate < 1", operator_rate=operator_rate)
    if max_tokens is not None:
        expect_integer(owner, max_tokens=max_tokens)
        expect(max_tokens >= 4, owner, "max_tokens >= 4", max_tokens=max_tokens)
    uniform, seen, trees, misses = _uniform(np.random.default_rng(seed)), set(exclude), [], 0
    while len(trees) < samples:
        tree, tokens = _operation(uniform, 1, max_depth, max_args, operator_rate, max_tokens)
        if tree not in seen and (max_tokens is None or tokens <= max_tokens):
            seen.add(tree)
            trees.append(tree)
            continue
        misses += 1
        rule, remedy = "as many different expressions as were asked for", "Ask for fewer, or allow longer ones."
        expect(misses < 1000 + 1000 * samples, owner, rule, remedy, samples=samples, found=len(trees))
    return trees, np.array([_value(tree) for tree in trees], "int32")


def list_ops_sequence(tree):
    """Return the tokens of an expression as they are written, for networks that read sequences.

    Args:
        tree: An expression of `list_ops`.

    Returns:
        List of token ids.

    Raises:
        TypeError: the expression is neither an integer nor a tuple.

    Source:
        As `list_ops`.

    Example:
        >>> " ".join(LIST_OPS_TOKENS[token] for token in list_ops_sequence((10, 2, 9, (11, 4, 7), 0)))
        '[MAX 2 9 [MIN 4 7 ] 0 ]'
    """
    if isinstance(tree, tuple):
        operator, *arguments = tree
        return [operator, *(token for part in arguments for token in list_ops_sequence(part)), CLOSE]
    expect_integer("list_ops_sequence", tree=tree)
    return [int(tree)]


def _uniform(random):
    """Draw numbers one by one, but in blocks."""
    while True:
        yield from random.random(4096).tolist()


def _operation(uniform, depth, max_depth, max_args, rate, max_tokens):
    """Draw an operator and its arguments; return them and how many tokens they take, or more than `max_tokens`."""
    tokens, arguments = 2, []
    for _ in range(2 + int((max_args - 1) * next(uniform))):
        if depth + 1 < max_depth and next(uniform) < rate:
            part, more = _operation(uniform, depth + 1, max_depth, max_args, rate, max_tokens)
        else:
            part, more = int(10 * next(uniform)), 1
        arguments.append(part)
        tokens += more
        if max_tokens is not None and tokens > max_tokens:
            break  # Whoever asked will throw it away.
    return (MAX + int(4 * next(uniform)), *arguments), tokens


def _value(tree):
    if not isinstance(tree, tuple):
        return tree
    operator, values = tree[0], sorted(_value(part) for part in tree[1:])
    if operator == MED:
        middle = len(values) // 2
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) // 2
    return {MAX: values[-1], MIN: values[0], SUM_MOD: sum(values) % 10}[operator]
