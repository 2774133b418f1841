"""ListOps: nested operations on lists of digits, a task that needs the right tree."""

import numpy as np

from keras_kicks._errors import expect, expect_integer, expect_number, expect_seed

# By id; 0 is for padding, and for nodes without a token of their own.
LIST_OPS_TOKENS = ("", *"0123456789", "[MAX", "[MIN", "[MED", "[SM", "]")
OPERATORS = ("MAX", "MIN", "MED", "SM")


def list_ops(samples, seed=None, max_depth=20, max_args=5, operator_rate=0.25, max_tokens=None, exclude=()):
    """Draw different expressions such as [MAX 2 9 [MIN 4 7 ] 0 ], and their values.

    An argument is an operator with `operator_rate`, which two to `max_args` arguments follow, and else a digit; at
    `max_depth` it is a digit. Operators are the maximum MAX, the minimum MIN, the median MED, which is rounded down
    between two digits, and the sum modulo 10, SM. Every value is a digit.

    Args:
        samples: Number of expressions, >= 1.
        seed: Seed of `numpy.random.default_rng`: the same expressions for the same seed; None for others in each call.
        max_depth: Depth of the deepest digits, >= 2; that of the outermost operator is 1.
        max_args: Most arguments of an operator, >= 2.
        operator_rate: Probability of an operator, in [0, 1).
        max_tokens: Most tokens of an expression, closing brackets included, >= 4; None for no limit.
        exclude: Expressions not to draw, such as those that were trained on.

    Returns:
        expressions: List of tuples (operator, argument, ...), such as ("MAX", 2, 9, ("MIN", 4, 7), 0), none twice.
        values: int32 array of shape (samples,).

    Raises:
        TypeError: a number is none; `seed` is neither None nor an integer.
        ValueError: expected samples >= 1; max_depth >= 2; max_args >= 2; operator_rate in [0, 1); max_tokens >= 4; as
            many different expressions as were asked for.

    Source:
        Nangia and Bowman 2018, arXiv:1804.06028; the rate of 0.25, five arguments, depth 20, the median cut to an
        integer and no expression twice are those of their generator. Departure: no expression is a digit alone, which
        ten of their million are.

    Example:
        >>> expressions, values = list_ops(1000, seed=0)
        >>> len(set(expressions)), values.shape
        (1000, (1000,))
    """
    owner = "list_ops"
    expect_integer(owner, samples=samples, max_depth=max_depth, max_args=max_args)
    expect_seed(owner, seed)
    expect_number(owner, operator_rate=operator_rate)
    for name, value, least in (("samples", samples, 1), ("max_depth", max_depth, 2), ("max_args", max_args, 2)):
        expect(value >= least, owner, f"{name} >= {least}", **{name: value})
    expect(0 <= operator_rate < 1, owner, "operator_rate in [0, 1)", operator_rate=operator_rate)
    if max_tokens is not None:
        expect_integer(owner, max_tokens=max_tokens)
        expect(max_tokens >= 4, owner, "max_tokens >= 4", max_tokens=max_tokens)
    uniform, seen, expressions, misses = _uniform(np.random.default_rng(seed)), set(exclude), [], 0
    while len(expressions) < samples:
        expression, tokens = _operation(uniform, 1, max_depth, max_args, operator_rate, max_tokens)
        if expression not in seen and (max_tokens is None or tokens <= max_tokens):
            seen.add(expression)
            expressions.append(expression)
            continue
        misses += 1
        rule, remedy = "as many different expressions as were asked for", "Ask for fewer, or allow longer ones."
        expect(misses < 1000 + 1000 * samples, owner, rule, remedy, samples=samples, found=len(expressions))
    return expressions, np.array([_value(expression) for expression in expressions], "int32")


def list_ops_sequence(expression):
    """Return the tokens of an expression as they are written, for networks that read sequences.

    Args:
        expression: One of `list_ops`.

    Returns:
        List of ids, indices of `LIST_OPS_TOKENS`.

    Raises:
        ValueError: expected operators with arguments, and digits.

    Source:
        As `list_ops`.

    Example:
        >>> ids = list_ops_sequence(("MAX", 2, 9, ("MIN", 4, 7), 0))
        >>> ids
        [11, 3, 10, 12, 5, 8, 15, 1, 15]
        >>> " ".join(LIST_OPS_TOKENS[i] for i in ids)
        '[MAX 2 9 [MIN 4 7 ] 0 ]'
    """
    if not isinstance(expression, tuple):
        return [_id("list_ops_sequence", expression)]
    operator, *arguments = expression
    return [
        _id("list_ops_sequence", operator, is_operator=True),
        *(token for argument in arguments for token in list_ops_sequence(argument)),
        LIST_OPS_TOKENS.index("]"),
    ]


def list_ops_tree(expression, binary=True):
    """Return an expression as a tree of token ids, which `tree_tensors` and `TreeBatches` take.

    Args:
        expression: One of `list_ops`.
        binary: Whether the tree is the published one, with all tokens at its leaves: an operator takes one argument
            after the other, and the closing bracket last: (((([MAX 2) 9) 0) ]). If not, it has the operator at a node
            above its arguments, and is for inner_labels=True.

    Returns:
        Nested tuples of ids, indices of `LIST_OPS_TOKENS`.

    Raises:
        ValueError: expected operators with arguments, and digits.

    Source:
        As `list_ops`.

    Example:
        >>> list_ops_tree(("MAX", 2, 9, 0))
        ((((11, 3), 10), 1), 15)
        >>> list_ops_tree(("MAX", 2, 9, 0), binary=False)
        (11, 3, 10, 1)
    """
    if not isinstance(expression, tuple):
        return _id("list_ops_tree", expression)
    operator, *arguments = expression
    tree = _id("list_ops_tree", operator, is_operator=True)
    arguments = [list_ops_tree(argument, binary) for argument in arguments]
    if not binary:
        return (tree, *arguments)
    for argument in (*arguments, LIST_OPS_TOKENS.index("]")):
        tree = (tree, argument)
    return tree


def _id(owner, part, is_operator=False):
    known = part in OPERATORS if is_operator else part in range(10) and not isinstance(part, bool)
    rule, remedy = "operators with arguments, and digits", f"Operators are {', '.join(OPERATORS)}."
    expect(known, owner, rule, remedy, part=part)
    return LIST_OPS_TOKENS.index(f"[{part}" if is_operator else str(part))


def _uniform(random):
    """Draw numbers one by one, but in blocks."""
    while True:
        yield from random.random(4096).tolist()


def _operation(uniform, depth, max_depth, max_args, rate, max_tokens):
    """Draw an operator and its arguments; return them and how many tokens they take, or some more than `max_tokens`."""
    tokens, arguments = 2, []
    for _ in range(2 + int((max_args - 1) * next(uniform))):
        if depth + 1 < max_depth and next(uniform) < rate:
            argument, more = _operation(uniform, depth + 1, max_depth, max_args, rate, max_tokens)
        else:
            argument, more = int(10 * next(uniform)), 1
        arguments.append(argument)
        tokens += more
        if max_tokens is not None and tokens > max_tokens:
            break  # It will be thrown away, and could be endless.
    return (OPERATORS[int(4 * next(uniform))], *arguments), tokens


def _value(expression):
    if not isinstance(expression, tuple):
        return expression
    operator, values = expression[0], sorted(_value(argument) for argument in expression[1:])
    if operator == "MED":
        middle = len(values) // 2
        return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) // 2
    return {"MAX": values[-1], "MIN": values[0], "SM": sum(values) % 10}[operator]
