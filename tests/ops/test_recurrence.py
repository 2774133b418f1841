"""Rules in the loop with the hand-written gradient, against automatic differentiation of the same steps one by one."""

import itertools

import numpy as np
import pytest

from keras_kicks.ops.gru_rule import GRURule
from keras_kicks.ops.lstm_rule import LSTMRule
from keras_kicks.ops.recurrence import recur
from keras_kicks.ops.recurrence_rule import Leaky, Masked, Zoneout
from keras_kicks.ops.simple_rnn_rule import SimpleRNNRule

pytestmark = pytest.mark.tensorflow

STEPS, BATCH, FEATURES, UNITS, PROJECTED = 4, 3, 4, 3, 2


def numbers(*shape):
    """Return float64 numbers that depend on nothing but the shape."""
    return np.random.default_rng(sum(shape) + len(shape)).normal(size=shape) / 2


def lstm(coupled=False, peephole=None, norm=False, projected=False, dropped=False):
    blocks, hidden, seeing = 3 if coupled else 4, PROJECTED if projected else UNITS, 1 if coupled else 2
    w = {"recurrent_kernel": numbers(hidden, blocks * UNITS), "bias": numbers(blocks * UNITS)}
    if peephole == "diagonal":
        w |= {"peephole_gates": numbers(seeing * UNITS), "peephole_output": numbers(UNITS)}
    if peephole == "full":
        w |= {"peephole_gates": numbers(UNITS, seeing * UNITS), "peephole_output": numbers(UNITS, UNITS)}
    if norm:
        w |= {"recurrent_gamma": 1 + numbers(blocks * UNITS), "cell_gamma": numbers(UNITS), "cell_beta": numbers(UNITS)}
    if projected:
        w["projection"] = numbers(UNITS, PROJECTED)
    rule = LSTMRule(UNITS, coupled, peephole, 1e-3 if norm else None, projected, dropped)
    constants = {"recurrent_mask": numbers(BATCH, hidden)} if dropped else {}
    return rule, numbers(FEATURES, blocks * UNITS), w, (numbers(BATCH, hidden), numbers(BATCH, UNITS)), constants


def gru(reset_after=True, norm=False, dropped=False):
    w = {"bias": numbers(3 * UNITS)}
    if reset_after:
        w |= {"recurrent_kernel": numbers(UNITS, 3 * UNITS), "recurrent_bias": 1 + numbers(3 * UNITS)}
    else:
        w |= {"gates_kernel": numbers(UNITS, 2 * UNITS), "candidate_kernel": numbers(UNITS, UNITS)}
    if norm:
        w |= {"gates_gamma": 1 + numbers(2 * UNITS), "candidate_gamma": 1 + numbers(UNITS)}
    constants = {"recurrent_mask": numbers(BATCH, UNITS)} if dropped else {}
    rule = GRURule(UNITS, reset_after, 1e-3 if norm else None, dropped)
    return rule, numbers(FEATURES, 3 * UNITS), w, (numbers(BATCH, UNITS),), constants


def simple(dropped=False):
    w = {"recurrent_kernel": numbers(UNITS, UNITS), "bias": numbers(UNITS)}
    constants = {"recurrent_mask": numbers(BATCH, UNITS)} if dropped else {}
    return SimpleRNNRule(dropped), numbers(FEATURES, UNITS), w, (numbers(BATCH, UNITS),), constants


def cases():
    """Yield a name, what a rule takes, tensors of each step and the states whose sequences are returned."""
    binary = (False, True)
    for options in itertools.product(binary, (None, "diagonal", "full"), binary, binary, binary):
        names = ("coupled", options[1], "norm", "projected", "dropped")
        name = "-".join(["lstm", *(key for key, on in zip(names, options, strict=True) if on)])
        yield name, lstm(*options), (), (0,)
    for options in itertools.product(binary, binary, binary):
        yield f"gru-{options}", gru(*options), (), (0,)
    yield "simple", simple(), (), (0,)
    yield "simple-dropped", simple(dropped=True), (), (0,)
    mask = np.random.default_rng(0).random((STEPS, BATCH, 1)) < 0.6
    for name, parts in (("lstm", lstm()), ("all", lstm(True, "diagonal", True, True, True)), ("gru", gru())):
        rule, kernel, w, states, constants = parts
        shares = [np.random.default_rng(i).random((STEPS, *state.shape)) for i, state in enumerate(states)]
        yield f"{name}-masked", (Masked(rule), kernel, w, states, constants), (mask,), (0,)
        zoned = Masked(Zoneout(rule, len(states)))
        yield f"{name}-zoned", (zoned, kernel, w, states, constants), (*shares, mask), (len(states) - 1,)
        leaky = {**w, "alpha": np.abs(numbers(states[0].shape[1]))}
        yield f"{name}-leaky", (Masked(Leaky(rule)), kernel, leaky, states, constants), (mask,), (0,)
    yield "outputs", lstm(), (), (0, 1)


CASES = {name: case for name, *case in cases()}


def step_by_step(rule, inputs, kernel, weights, states, steps, constants, outputs, keep):
    """What `recur` computes, without its loop and its gradient."""
    import tensorflow as tf

    rows = []
    for t in range(STEPS):
        states, _ = rule.forward(
            tf.matmul(inputs[t], kernel), states, {**weights, **constants}, tuple(extra[t] for extra in steps)
        )
        rows.append(states)
    return [tf.stack([row[i] for row in rows]) for i in outputs], list(states)


def values_and_gradients(form, case, keep=True):
    import tensorflow as tf

    (rule, kernel, weights, states, constants), steps, outputs = case
    sources = tf.nest.map_structure(tf.constant, [numbers(STEPS, BATCH, FEATURES), kernel, weights, states])
    constants, steps = tf.nest.map_structure(tf.constant, (constants, tuple(steps)))
    with tf.GradientTape() as tape:
        tape.watch(sources)
        sequences, last = form(rule, *sources, steps, constants, outputs, keep)
        results = [*sequences, *last]
        value = sum(tf.reduce_sum(y * numbers(*y.shape[::-1]).T) for y in results)
    return [*results, *tape.gradient(value, tf.nest.flatten(sources))]


def expect_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert np.abs(b).max() > 0
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_automatic_differentiation(name):
    expect_same(values_and_gradients(recur, CASES[name]), values_and_gradients(step_by_step, CASES[name]))


SOME = ["lstm", "lstm-coupled-diagonal-norm-projected-dropped", "gru-(True, True, False)", "all-zoned", "lstm-leaky"]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", SOME)
def test_and_in_a_graph(name, jit_compile):
    import tensorflow as tf

    graph = tf.function(lambda: values_and_gradients(recur, CASES[name]), jit_compile=jit_compile, autograph=False)
    expect_same(graph(), values_and_gradients(step_by_step, CASES[name]))


@pytest.mark.parametrize("name", SOME[:2])
def test_and_where_nothing_was_kept(name):
    expect_same(values_and_gradients(recur, CASES[name], keep=False), values_and_gradients(step_by_step, CASES[name]))


def test_one_step_is_a_sequence():
    import tensorflow as tf

    rule, kernel, w, states, _ = lstm()
    x, kernel, w, states = tf.nest.map_structure(tf.constant, (numbers(1, BATCH, FEATURES), kernel, w, states))
    (h,), last = recur(rule, x, kernel, w, states)
    np.testing.assert_array_equal(h[0], last[0])
    expected, _ = rule.forward(x[0] @ kernel, states, w, ())
    np.testing.assert_allclose(last[0], expected[0], rtol=1e-12)
