"""Deep steps, against their equations in NumPy."""

import keras
import numpy as np
import pytest
from layers.recurrent.recurrent_layers import SHAPE, array, expect_same, filled, normal

import keras_kicks as kk
from keras_kicks.layers import DeepTransitionCell


def tanh(units, **kwargs):
    return keras.layers.Dense(units, activation="tanh", **kwargs)


def dense(x, layer):
    return np.tanh(x @ array(layer.kernel).astype("float64") + array(layer.bias))


@pytest.mark.parametrize("skip", [True, False])
def test_values_are_those_of_the_equations(skip):
    blocks = [tanh(5), tanh(3)], [tanh(6), tanh(7), tanh(4)], [tanh(5), tanh(2)]
    layer = filled(keras.layers.RNN(DeepTransitionCell(*blocks, skip=skip), return_sequences=True))

    def run(block, begin):
        y = begin
        for one in block[:-1]:
            y = dense(y, one)
        return dense(np.concatenate([y, begin], 1) if skip else y, block[-1])

    x, h, rows = normal(*SHAPE), np.zeros((3, 4)), []
    for t in range(x.shape[1]):
        h = run(blocks[1], np.concatenate([run(blocks[0], x[:, t]), h], 1))
        rows.append(run(blocks[2], h))
    expect_same(layer(x), np.stack(rows, 1))


def test_one_layer_and_nothing_else_is_a_simple_network():
    deep = filled(keras.layers.RNN(DeepTransitionCell(None, tanh(4), None), return_sequences=True))
    simple = keras.layers.SimpleRNN(4, return_sequences=True)
    simple.build(SHAPE)
    kernel, bias = deep.get_weights()
    simple.set_weights([kernel[:4], kernel[4:], bias])
    expect_same(deep(normal(*SHAPE)), simple(normal(*SHAPE)))


def test_a_cell_can_be_the_first_layer_of_the_transition():
    """Its output goes on through the rest of the block, and that is the next hidden state; its other state stays."""
    cell, further = kk.layers.LSTMCell(4), [tanh(6), tanh(4)]
    layer = filled(keras.layers.RNN(DeepTransitionCell(tanh(3), [cell, *further], None), return_state=True))
    x = normal(*SHAPE)
    h, c = np.zeros((3, 4), "float32"), np.zeros((3, 4), "float32")
    for t in range(x.shape[1]):
        u = dense(x[:, t], layer.cell.input_block[0]).astype("float32")
        output, (_, c) = cell(u, [h, c])
        h = dense(np.concatenate([dense(array(output), further[0]), array(output)], 1), further[1]).astype("float32")
    expect_same(layer(x), (h, h, c))


def test_the_shortest_way_from_state_to_state_is_one_layer():
    """The derivative along it does not pass the layers between: those are dead here, and it is there all the same."""
    dead = keras.layers.Dense(6, kernel_initializer="zeros")

    def reach(skip):
        layer = keras.layers.RNN(DeepTransitionCell(None, [dead, tanh(4, kernel_initializer="ones")], None, skip=skip))
        x = np.zeros((1, 5, 3), "float32")
        first = np.full((1, 4), 0.1, "float32")
        return np.abs(array(layer(x, initial_state=first))).max()

    assert reach(skip=False) == 0
    assert reach(skip=True) > 0.1


def test_the_cell_inside_draws_once_for_a_sequence():
    alone = filled(keras.layers.RNN(kk.layers.LSTMCell(5, dropout=0.4, recurrent_dropout=0.4, seed=2)))
    cell = DeepTransitionCell(None, kk.layers.LSTMCell(5, dropout=0.4, recurrent_dropout=0.4, seed=2), None)
    around = filled(keras.layers.RNN(cell), like=alone)
    for _ in range(2):
        expect_same(around(normal(*SHAPE), training=True), alone(normal(*SHAPE), training=True))


def test_a_block_may_be_a_sequential_and_the_width_may_be_given():
    block = keras.Sequential([tanh(5), keras.layers.Dense(4), keras.layers.LayerNormalization()])
    cell = DeepTransitionCell(None, block, None)
    assert [type(layer).__name__ for layer in cell.transition_block] == ["Dense", "Dense", "LayerNormalization"]
    assert tuple(keras.layers.RNN(cell)(normal(*SHAPE)).shape) == (3, 4)
    cell = DeepTransitionCell(None, keras.layers.EinsumDense("ab,bc->ac", 4), None, state_size=4)
    assert tuple(keras.layers.RNN(cell)(normal(*SHAPE)).shape) == (3, 4)


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ((None, [], None), ValueError, "DeepTransitionCell: expected a transition_block of at least one layer"),
        ((None, "dense", None), TypeError, "a block of Keras layers"),
        ((None, [tanh(4), kk.layers.LSTMCell(4)], None), ValueError, "a recurrent cell only as the first layer"),
        ((kk.layers.LSTMCell(4), tanh(4), None), ValueError, "a recurrent cell only as the first layer"),
        ((None, keras.layers.Activation("tanh"), None), ValueError, "whose last layer has units, or a state_size"),
    ],
)
def test_wrong_blocks_are_refused(blocks, error, message):
    with pytest.raises(error, match=message):
        DeepTransitionCell(*blocks)


def test_a_block_whose_output_cannot_be_the_state_is_refused():
    cell = DeepTransitionCell(None, [keras.layers.Dense(4), keras.layers.RepeatVector(2)], None)
    with pytest.raises(ValueError, match=r"a transition_block whose output can be the next state; got output_shape="):
        keras.layers.RNN(cell)(normal(*SHAPE))
    cell = DeepTransitionCell(None, [kk.layers.LSTMCell(4), keras.layers.Dense(3)], None)
    with pytest.raises(ValueError, match=r"state_size=4. Its last layer must return shape \(batch, 4\)"):
        keras.layers.RNN(cell)(normal(*SHAPE))
