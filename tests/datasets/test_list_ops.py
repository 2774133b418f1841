"""ListOps, against an evaluation of the tokens by a stack and the published numbers."""

import numpy as np
import pytest

from keras_kicks.datasets import LIST_OPS_TOKENS, list_ops, list_ops_sequence
from keras_kicks.datasets.list_ops import list_ops_tree


def evaluated(tokens):
    """The value of an expression from its tokens, by a stack."""
    stack = []
    for token in (LIST_OPS_TOKENS[token] for token in tokens):
        if token != "]":
            stack.append(token if token[0] == "[" else int(token))
            continue
        values = []
        while not isinstance(stack[-1], str):
            values.append(stack.pop())
        operator = stack.pop()[1:]
        functions = {"MAX": max, "MIN": min, "SM": lambda v: sum(v) % 10, "MED": lambda v: int(np.median(v))}
        stack.append(functions[operator](values))
    (value,) = stack
    return value


def leaves(tree):
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [tree]


def test_values_are_those_of_the_tokens():
    expressions, values = list_ops(500, seed=3)
    assert [evaluated(list_ops_sequence(expression)) for expression in expressions] == values.tolist()
    assert len(set(expressions)) == 500


def test_trees_hold_the_tokens_in_their_order():
    """The published tree has them at its leaves, and two branches everywhere; the other one lacks the brackets."""

    def prefix(tree):
        return [token for part in tree for token in prefix(part)] if isinstance(tree, tuple) else [tree]

    def branches(tree):
        return {len(tree)}.union(*map(branches, tree)) if isinstance(tree, tuple) else set()

    close = LIST_OPS_TOKENS.index("]")
    for expression in list_ops(100, seed=4)[0]:
        tokens = list_ops_sequence(expression)
        assert leaves(list_ops_tree(expression)) == tokens
        assert branches(list_ops_tree(expression)) == {2}
        assert prefix(list_ops_tree(expression, binary=False)) == [token for token in tokens if token != close]


def test_they_are_drawn_as_published():
    """A quarter of the arguments are operators, all four alike, with two to five arguments, down to depth 20."""
    arguments, operators, counts, depths = [], [], [], []

    def visit(expression, depth):
        operators.append(expression[0])
        counts.append(len(expression) - 1)
        depths.append(depth)
        for part in expression[1:]:
            # Short expressions are rarer than they were drawn, since none comes twice: only what is deep is a sample.
            if 2 < depth < 19:
                arguments.append(isinstance(part, tuple))
            if isinstance(part, tuple):
                visit(part, depth + 1)

    for expression in list_ops(3000, seed=4)[0]:
        visit(expression, 1)
    # Arguments of one expression have a size in common, so that their share spreads wider than that of so many draws.
    assert abs(np.mean(arguments) - 0.25) < 0.02
    assert set(counts) == {2, 3, 4, 5}
    assert max(depths) == 19
    for values in (operators, counts):
        _, shares = np.unique(values, return_counts=True)
        assert np.abs(shares / len(values) - 0.25).max() < 0.02


def test_limits_are_kept():
    short, _ = list_ops(200, seed=5, max_tokens=20)
    assert max(len(list_ops_sequence(expression)) for expression in short) <= 20
    flat, _ = list_ops(100, seed=5, max_depth=2, max_args=3)
    assert {len(expression) for expression in flat} == {3, 4}
    assert all(isinstance(part, int) for expression in flat for part in expression[1:])


def test_a_seed_repeats_them_and_what_is_excluded_stays_out():
    train, _ = list_ops(300, seed=5, max_tokens=12)
    assert list_ops(300, seed=5, max_tokens=12)[0] == train
    test, _ = list_ops(300, seed=5, max_tokens=12, exclude=train)
    assert not set(train) & set(test)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"samples": 0}, ValueError, "list_ops: expected samples >= 1; got samples=0"),
        ({"samples": 1.5}, TypeError, "list_ops: expected an integer for samples"),
        ({"samples": 1, "seed": "a"}, TypeError, "an integer for seed"),
        ({"samples": 1, "max_depth": 1}, ValueError, "max_depth >= 2"),
        ({"samples": 1, "max_args": 1}, ValueError, "max_args >= 2"),
        ({"samples": 1, "operator_rate": 1.0}, ValueError, r"operator_rate in \[0, 1\)"),
        ({"samples": 1, "max_tokens": 3}, ValueError, "max_tokens >= 4"),
        (
            # Two digits under one of four operators.
            {"samples": 401, "seed": 0, "max_tokens": 4},
            ValueError,
            "as many different expressions as were asked for; got samples=401, found=400. Ask for fewer",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        list_ops(**arguments)


@pytest.mark.parametrize("function", [list_ops_sequence, list_ops_tree])
@pytest.mark.parametrize("wrong", [("AVG", 1, 2), ("MAX", 1, 10), ("MAX", "]", 2), ("MAX", "MIN", 2), (3, 1, 2), "MAX"])
def test_no_expression_is_refused(function, wrong):
    with pytest.raises(ValueError, match="expected operators with arguments, and digits; got part="):
        function(wrong)
