"""LSTM, GRU and RNN with every option off, against Keras's layers."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.recurrent_layers import SHAPE, array, expect_same, filled, gradients, normal, some_mask

import keras_kicks as kk
from keras_kicks.layers.recurrent.sequence_plan import has_plan


def simple(units, **kwargs):
    return kk.layers.RNN(keras.layers.SimpleRNNCell(units), **kwargs)


PAIRS = {
    "LSTM": (keras.layers.LSTM, kk.layers.LSTM, {}),
    "GRU": (keras.layers.GRU, kk.layers.GRU, {}),
    "GRU-before": (keras.layers.GRU, kk.layers.GRU, {"reset_after": False}),
    "LSTM-no-bias": (keras.layers.LSTM, kk.layers.LSTM, {"use_bias": False}),
    "GRU-no-bias": (keras.layers.GRU, kk.layers.GRU, {"use_bias": False}),
    "SimpleRNN": (keras.layers.SimpleRNN, simple, {}),
}


def pair(name, **kwargs):
    theirs, ours, options = PAIRS[name]
    theirs = filled(theirs(5, **options, **kwargs))
    return theirs, filled(ours(5, **options, **kwargs), like=theirs)


def first_states(name):
    return [ops.convert_to_tensor(normal(3, 5, seed=seed)) for seed in range(2 if name.startswith("LSTM") else 1)]


@pytest.mark.parametrize("name", PAIRS)
def test_values_states_and_masks_are_those_of_keras(name):
    x = normal(*SHAPE)
    for sequences, backwards, masked, started in itertools.product((False, True), repeat=4):
        theirs, ours = pair(name, return_sequences=sequences, return_state=True, go_backwards=backwards)
        arguments = {"mask": some_mask()} if masked else {}
        if started:
            arguments["initial_state"] = first_states(name)
        if started and masked and keras.backend.backend() == "jax":
            continue  # Keras shows the first state before the first step that counts there, and zeros elsewhere.
        expect_same(ours(x, **arguments), theirs(x, **arguments))


@pytest.mark.parametrize("zero", [False, True])
def test_masked_outputs_are_those_of_the_plain_loop(zero):
    """Keras's LSTM does not take the argument; its RNN does."""
    cell = kk.layers.LSTMCell(5)
    x, arguments = normal(*SHAPE), {"mask": some_mask()}
    if keras.backend.backend() != "jax":  # As above.
        arguments["initial_state"] = first_states("LSTM")
    for sequences in (False, True):
        options = {"return_sequences": sequences, "return_state": True, "zero_output_for_mask": zero}
        theirs = filled(keras.layers.RNN(cell, **options))
        ours = filled(kk.layers.RNN(cell, **options), like=theirs)
        expect_same(ours(x, **arguments), theirs(x, **arguments))


def test_a_row_that_is_masked_altogether_gives_zeros_and_keeps_its_states():
    layer = filled(kk.layers.LSTM(5, return_sequences=True, return_state=True))
    first = first_states("LSTM")
    y, h, c = layer(normal(*SHAPE), mask=some_mask(), initial_state=first)
    np.testing.assert_array_equal(array(y)[2], np.zeros((6, 5)))
    np.testing.assert_array_equal(array(h)[2], array(first[0])[2])
    np.testing.assert_array_equal(array(c)[2], array(first[1])[2])


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_those_of_keras(name):
    for masked in (False, True):
        theirs, ours = pair(name, return_sequences=True, return_state=True)
        arguments = {"mask": some_mask(), "initial_state": first_states(name)} if masked else {}
        expected = gradients(theirs, normal(*SHAPE), **arguments)
        for training in (False, True):
            expect_same(gradients(ours, normal(*SHAPE), training=training, **arguments), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_stateful_layers_go_on_and_are_reset(name):
    theirs, ours = (filled(make(5, stateful=True, return_sequences=True)) for make in PAIRS[name][:2])
    for batch in range(3):
        x = normal(*SHAPE, seed=batch)
        expect_same(ours(x), theirs(x))
    ours.reset_state()
    theirs.reset_state()
    expect_same(ours(normal(*SHAPE)), theirs(normal(*SHAPE)))


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_bidirectional_runs_both_ways(name):
    x = normal(*SHAPE)
    theirs, ours = (
        filled(keras.layers.Bidirectional(PAIRS[name][which](5, return_sequences=True))) for which in (0, 1)
    )
    expect_same(ours(x, mask=some_mask()), theirs(x, mask=some_mask()))
    again = keras.layers.Bidirectional.from_config(ours.get_config())
    expect_same(filled(again)(x), ours(x))


def test_a_stack_runs_cell_by_cell_as_keras_runs_it():
    def stack():
        return keras.layers.StackedRNNCells(
            [kk.layers.LSTMCell(5), kk.layers.GRUCell(3), keras.layers.SimpleRNNCell(2)]
        )

    x = normal(*SHAPE)
    theirs = filled(keras.layers.RNN(stack(), return_sequences=True, return_state=True))
    ours = filled(kk.layers.RNN(stack(), return_sequences=True, return_state=True), like=theirs)
    expect_same(ours(x, mask=some_mask()), theirs(x, mask=some_mask()))
    # Without a fast loop for one of them, all of them run in Keras's.
    mixed = [kk.layers.LSTMCell(5), keras.layers.LSTMCell(3)]
    theirs = filled(keras.layers.RNN(mixed))
    expect_same(filled(kk.layers.RNN(mixed), like=theirs)(x), theirs(x))


def test_what_runs_in_which_loop():
    assert has_plan(kk.layers.LSTMCell(3))
    assert has_plan(kk.layers.GRUCell(3))
    assert has_plan(kk.layers.LeakyCell(keras.layers.SimpleRNNCell(3)))
    assert not has_plan(kk.layers.LSTMCell(3, activation="relu"))
    assert not has_plan(kk.layers.GRUCell(3, recurrent_activation="hard_sigmoid"))
    assert not has_plan(keras.layers.SimpleRNNCell(3, activation="relu"))
    assert not has_plan(keras.layers.LSTMCell(3))


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_other_activations_and_unroll_are_those_of_keras(name):
    x = normal(*SHAPE)
    for options in ({"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}, {"unroll": True}):
        theirs, ours = pair(name, **options)
        expect_same(ours(x), theirs(x))


@pytest.mark.tensorflow
def test_the_graph_does_not_grow_with_the_length_and_the_length_may_be_unknown():
    import tensorflow as tf

    layer = filled(kk.layers.LSTM(5, return_sequences=True))

    def nodes(steps):
        run = tf.function(lambda x: gradients_in_graph(layer, x), autograph=False)
        graph = run.get_concrete_function(tf.TensorSpec((None, steps, 4))).graph
        functions = graph.as_graph_def().library.function
        return len(graph.get_operations()) + sum(len(function.node_def) for function in functions)

    # Both are divided into sixteen slices, in which sums over all steps are taken.
    assert nodes(32) == nodes(480)
    run = tf.function(lambda x: gradients_in_graph(layer, x), autograph=False)
    unknown = run.get_concrete_function(tf.TensorSpec((None, None, 4)))
    for batch, steps in ((2, 3), (1, 7)):
        x = normal(batch, steps, 4)
        expect_same(unknown(tf.constant(x)), gradients_in_graph(layer, tf.constant(x)), atol=1e-5)


def gradients_in_graph(layer, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(tf.square(layer(x, training=True)))
    return tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)])


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_is_that_of_keras(jit_compile):
    """Weights after some steps of Adam, with an uneven last batch and masked steps."""
    x, y = np.random.default_rng(0).integers(0, 7, (22, 6)), np.arange(22) % 3

    def trained(make):
        keras.utils.set_random_seed(0)
        parts = [keras.layers.Embedding(7, 4, mask_zero=True), make(5), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((6,)), *parts])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=jit_compile)
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        return model.get_weights()

    expect_same(trained(kk.layers.LSTM), trained(keras.layers.LSTM), atol=1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_no_step_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: expected at least one step; got shape=\(3, 0, 4\)"):
        filled(PAIRS[name][1](5))(np.zeros((3, 0, 4), "float32"))
