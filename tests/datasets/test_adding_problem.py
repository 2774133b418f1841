"""The adding problem, read back sequence by sequence."""

import re
from fractions import Fraction

import keras
import numpy as np
import pytest

from keras_kicks.datasets import adding_problem


def test_the_target_is_the_sum_of_the_two_marked_values():
    x, y = adding_problem(500, length=9, seed=0)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((500, 9, 2), np.float32, (500, 1), np.float32)
    for pairs, (target,) in zip(x.tolist(), y.tolist(), strict=True):
        marked = [i for i, (_, marker) in enumerate(pairs) if marker == 1]
        assert [marker for _, marker in pairs].count(0) == 7
        assert marked[0] < 4 <= marked[1]
        assert target == pytest.approx(sum(pairs[i][0] for i in marked), abs=1e-6)
        assert all(0 <= value < 1 for value, _ in pairs)


def published_target(pairs):
    """Read a sequence of the form of 1997: its target, and the places of the marked pairs."""
    assert pairs[0][1] == pairs[-1][1] == -1
    marked = [i for i, (_, marker) in enumerate(pairs) if marker == 1]
    assert {marker for i, (_, marker) in enumerate(pairs[1:-1], 1) if i not in marked} <= {0}
    assert all(-1 <= value < 1 for value, _ in pairs)
    if len(marked) == 1:
        assert pairs[0][0] == 0
    return 0.5 + sum(pairs[i][0] for i in marked) / 4, marked


def test_the_published_form():
    x, y = adding_problem(2000, length=30, seed=0, form="1997")
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((2000, 33, 2), np.float32, (2000, 1), np.float32)
    steps, places = [], []
    for padded, (target,) in zip(x.tolist(), y.tolist(), strict=True):
        count = next(i for i in range(33, 0, -1) if padded[i - 1] != [0, 0])
        expected, marked = published_target(padded[:count])
        assert target == pytest.approx(expected, abs=1e-6)
        steps.append(count)
        places.append(marked)
    assert set(steps) == {30, 31, 32, 33}
    # The first is one of the first ten; the second one of the first 14 that are left, the fifteenth at the most.
    assert {len(marked) for marked in places} == {1, 2}
    assert max(max(marked) for marked in places) == 14
    assert all(min(marked) < 10 for marked in places if len(marked) == 2)


def test_published_places_are_uniform():
    """Place i is drawn first with 1/10; then each of the first T/2 - 1 = 49 places that are left with 1/49."""
    x, _ = adding_problem(40000, length=100, seed=1, form="1997")
    share = (x[..., 1] == 1).mean(axis=0)
    for i in range(1, 52):
        first = Fraction(1, 10) if i < 10 else 0
        # The second one is the fiftieth place only if it is not needed further in front: never with first < 10.
        second = (1 - first) * Fraction(1, 49) if i < 50 else 0
        assert abs(share[i] - float(first + second)) < 0.006
    assert share[0] == 0


def test_published_masking_takes_the_padding_out():
    x, _ = adding_problem(20, length=30, seed=0, form="1997")
    steps = keras.ops.convert_to_numpy(keras.layers.Masking().compute_mask(keras.ops.convert_to_tensor(x))).sum(axis=1)
    last = [np.flatnonzero(row == -1)[-1] + 1 for row in x[..., 1]]
    assert steps.tolist() == last


def test_places_of_the_sum_are_uniform_in_their_halves():
    x, _ = adding_problem(40000, length=20, seed=2)
    np.testing.assert_allclose(x[..., 1].mean(axis=0), 0.1, atol=0.006)


@pytest.mark.parametrize(
    ("form", "constant", "error"), [("sum", 1.0, 1 / 6), ("1997", 0.5, (1 / 24) * (1 - (0.1 + 0.9 / 99) / 2))]
)
def test_the_best_constant_has_the_error_of_the_closed_form(form, constant, error):
    """Var(X1 + X2) = 2 / 12 for values uniform in [0, 1], 2 / 3 in [-1, 1], which a quarter makes 1 / 24.

    Half of it is missing where one of the two is the first pair, whose value counts as 0.
    """
    _, y = adding_problem(40000, length=200, seed=3, form=form)
    assert y.mean() == pytest.approx(constant, abs=0.005)
    assert np.mean((y - constant) ** 2) == pytest.approx(error, rel=0.02)


def test_both_criteria_are_one_rule():
    """Half of the sum of values mapped to [0, 1] is the target of 1997: 0.04 there is 0.08 of the sum."""
    x, y = adding_problem(300, length=40, seed=4, form="1997")
    marked = x[..., 1] == 1
    both = marked.sum(axis=1) == 2
    sums = np.sum((x[..., 0] + 1) / 2 * marked, axis=1)
    np.testing.assert_allclose(y[both, 0], sums[both] / 2, atol=1e-6)


@pytest.mark.parametrize("form", ["sum", "1997"])
def test_a_seed_gives_the_same_numbers(form):
    first, again, other = (adding_problem(5, 20, seed, form) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 10), ValueError, "expected samples >= 1; got samples=0."),
        ((2.0, 10), TypeError, "expected an integer for samples; got samples=2.0."),
        ((2, 1), ValueError, "expected length >= 2 in this form; got length=1, form='sum'."),
        ((2, 11, 0, "1997"), ValueError, "expected length >= 12 in this form; got length=11, form='1997'."),
        ((2, "10"), TypeError, "expected an integer for length; got length='10'."),
        ((2, 10, 0.5), TypeError, "expected an integer for seed; got seed=0.5."),
        ((2, 10, 0, "product"), ValueError, "expected form to be one of 'sum', '1997'; got form='product'."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"adding_problem: {message}")):
        adding_problem(*arguments)
