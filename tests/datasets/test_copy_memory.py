"""The copying memory problem, played by an automaton."""

import math
import re

import numpy as np
import pytest

from keras_kicks.datasets import copy_memory


def copied(sequence, blank):
    """Answer as the task asks: blanks, until the sign comes; then what was seen before the first blank."""
    kept, answers, saying = [], [], None
    for symbol in sequence:
        answers.append(saying.pop(0) if saying else blank)
        if symbol == blank + 1:
            saying = list(kept)
        elif symbol != blank:
            kept.append(symbol)
    return answers


@pytest.mark.parametrize(
    ("lag", "arguments"), [(1, {}), (30, {}), (5, {"length": 3, "symbols": 2}), (2, {"length": 1, "symbols": 1})]
)
def test_an_automaton_answers_as_the_targets(lag, arguments):
    x, y = copy_memory(50, lag, seed=0, **arguments)
    length, symbols = arguments.get("length", 10), arguments.get("symbols", 8)
    assert x.shape == y.shape == (50, lag + 2 * length)
    assert x.dtype == y.dtype == np.int32
    for sequence, answers in zip(x.tolist(), y.tolist(), strict=True):
        assert copied(sequence, blank=symbols) == answers
        # From the last symbol to its copy, T + n steps pass; so for all of them.
        assert sequence[:length] == answers[-length:]
        assert sequence.count(symbols + 1) == 1
        assert sequence.count(symbols) == lag - 1 + length
        assert sequence[length : length + lag].index(symbols + 1) == lag - 1


def test_symbols_are_uniform_and_independent():
    x, _ = copy_memory(20000, lag=1, length=2, symbols=4, seed=1)
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(x[:, :2].T), 1)
    np.testing.assert_allclose(counts / len(x), 1 / 16, atol=0.006)


def test_the_memoryless_strategy_has_the_cross_entropy_of_the_closed_form():
    """It knows the time alone: probability 1 for blanks, 1 / S for each symbol at the end."""
    _, y = copy_memory(100, lag=100, seed=2)
    probabilities = np.zeros((120, 9))
    probabilities[:110, 8] = 1
    probabilities[110:, :8] = 1 / 8
    loss = -np.mean(np.log(probabilities[np.arange(120), y]))
    assert loss == pytest.approx(10 * math.log(8) / 120, rel=1e-12)


def test_a_seed_gives_the_same_numbers():
    first, again, other = (copy_memory(5, 4, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 10), ValueError, "expected samples >= 1; got samples=0."),
        ((1, 0), ValueError, "expected lag >= 1; got lag=0."),
        ((1, 10, 0), ValueError, "expected length >= 1; got length=0."),
        ((1, 10, 10, 0), ValueError, "expected symbols >= 1; got symbols=0."),
        ((1, 1.5), TypeError, "expected an integer for lag; got lag=1.5."),
        ((1, 10, 10, 8, "0"), TypeError, "expected an integer for seed; got seed='0'."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"copy_memory: {message}")):
        copy_memory(*arguments)
