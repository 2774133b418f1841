"""Connections that skip steps, against loops in NumPy."""

import keras
import numpy as np
import pytest
from layers.recurrent.recurrent_layers import SHAPE, array, expect_same, filled, normal, some_mask

import keras_kicks as kk
from keras_kicks.layers import SkipCell, dilated_cells


@pytest.mark.parametrize("skip", [1, 2, 3, 9])
def test_a_simple_cell_sees_the_last_state_and_an_older_one(skip):
    """h_t = tanh(x_t W + h_{t-skip} V + h_{t-1} U + b)."""
    layer = filled(keras.layers.RNN(SkipCell(keras.layers.SimpleRNNCell(3), skip), return_sequences=True))
    w, u, b = (array(v).astype("float64") for v in layer.trainable_variables)
    x = normal(*SHAPE)
    hs = [np.zeros((3, 3))] * skip
    for t in range(x.shape[1]):
        hs.append(np.tanh(x[:, t] @ w[:4] + hs[-skip] @ w[4:] + hs[-1] @ u + b))
    expect_same(layer(x), np.stack(hs[skip:], 1))


@pytest.mark.parametrize("skip", [1, 2, 3])
@pytest.mark.parametrize("cell", [keras.layers.LSTMCell, keras.layers.GRUCell])
def test_without_the_last_state_there_are_interleaved_networks(cell, skip):
    plain = filled(keras.layers.RNN(cell(5), return_sequences=True))
    dilated = filled(keras.layers.RNN(SkipCell(cell(5), skip, last=False), return_sequences=True), like=plain)
    x = normal(*SHAPE)
    y = array(dilated(x))
    for first in range(skip):
        expect_same(y[:, first::skip], plain(x[:, first::skip]))


def test_a_stack_has_skips_of_growing_scale():
    cells = [kk.layers.LSTMCell(4), keras.layers.GRUCell(3), keras.layers.SimpleRNNCell(2)]
    layer = filled(keras.layers.RNN(dilated_cells(cells, base=2), return_sequences=True))
    y = x = normal(*SHAPE)
    for cell, skip in zip(cells, (1, 2, 4), strict=True):
        below, alone = y, keras.layers.RNN(cell, return_sequences=True)
        y = np.zeros((*x.shape[:2], cell.units), "float32")
        for first in range(skip):
            if first < x.shape[1]:
                y[:, first::skip] = array(alone(below[:, first::skip]))
    expect_same(layer(x), y)


@pytest.mark.parametrize("last", [True, False])
def test_masked_steps_are_not_counted(last):
    """A sequence with holes ends as the sequence without them."""
    layer = filled(keras.layers.RNN(SkipCell(kk.layers.LSTMCell(3), 2, last=last), return_state=True))
    x, mask = normal(*SHAPE), array(some_mask())
    masked = layer(x, mask=some_mask())
    for row in range(2):
        expect_same([y[row] for y in masked], [y[0] for y in layer(x[row : row + 1, mask[row]])])


def test_the_cell_inside_draws_once_for_a_sequence():
    cell = SkipCell(kk.layers.LSTMCell(5, dropout=0.5, recurrent_dropout=0.5, seed=2), 2)
    layer = filled(keras.layers.RNN(cell, return_sequences=True))
    x = np.broadcast_to(normal(1, 1, 4), SHAPE).astype("float32")
    y = array(layer(x, training=True))
    # The first step of a row sees nothing but its mask of the inputs.
    assert np.ptp(y[:, 0], axis=0).max() > 1e-3
    assert np.abs(y - array(layer(x, training=True))).max() > 1e-3
    assert cell.cell.input_mask is None
    expect_same(layer(x), layer(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"skip": 0}, ValueError, "SkipCell: expected skip >= 1; got skip=0"),
        ({"skip": 1.5}, TypeError, "an integer for skip"),
        ({"cell": "lstm"}, TypeError, "a recurrent cell"),
        ({"cell": kk.layers.LSTMCell(3, output_cell_state=True)}, ValueError, "a cell whose output is its first state"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SkipCell(**{"cell": keras.layers.GRUCell(3), "skip": 2, **arguments})


def test_wrong_stacks_are_refused():
    with pytest.raises(ValueError, match="dilated_cells: expected at least one cell"):
        dilated_cells([])
    with pytest.raises(ValueError, match="base >= 1; got base=0"):
        dilated_cells([keras.layers.GRUCell(3)], base=0)
