"""Leaky units: the closed form, any cell, and what is learned."""

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.recurrent_layers import SHAPE, array, expect_same, filled, gradients, normal, some_mask

import keras_kicks as kk
from keras_kicks.layers import LeakyCell

CELLS = {
    "simple": lambda **k: keras.layers.SimpleRNNCell(5, **k),
    "gru": lambda **k: kk.layers.GRUCell(5, **k),
    "lstm": lambda **k: kk.layers.LSTMCell(5, peephole="diagonal", **k),
}


def no_memory(units):
    """A cell that returns its input."""
    return keras.layers.SimpleRNNCell(
        units, activation="tanh", kernel_initializer="identity", recurrent_initializer="zeros"
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0, "sampled", "learned"])
@pytest.mark.parametrize("make", [keras.layers.RNN, kk.layers.RNN])
def test_the_response_to_a_constant_is_the_closed_form(make, alpha):
    """h_t = alpha^t h_0 + (1 - alpha^t) u."""
    layer = make(LeakyCell(no_memory(3), alpha, seed=1), return_sequences=True)
    x, first = np.full((2, 20, 3), 0.7, "float32"), normal(2, 3)
    y = array(layer(x, initial_state=ops.convert_to_tensor(first)))
    alphas = np.broadcast_to(array(layer.cell.current_alpha()), (3,)).astype("float64")
    left = alphas ** np.arange(1, 21)[:, None]
    np.testing.assert_allclose(y, left * first[:, None] + (1 - left) * np.tanh(0.7), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("alpha", [0.4, "sampled", "learned"])
def test_whole_sequences_are_single_steps(name, alpha):
    options = {"return_sequences": True, "return_state": True}
    stepped = filled(keras.layers.RNN(LeakyCell(CELLS[name](), alpha, seed=1), **options))
    whole = filled(kk.layers.RNN(LeakyCell(CELLS[name](), alpha, seed=1), **options), like=stepped)
    expect_same(whole(normal(*SHAPE), mask=some_mask()), stepped(normal(*SHAPE), mask=some_mask()))


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_single_steps(name):
    stepped = filled(keras.layers.RNN(LeakyCell(CELLS[name]()), return_sequences=True))
    whole = filled(kk.layers.RNN(LeakyCell(CELLS[name]()), return_sequences=True), like=stepped)
    assert "leak_logit" in [v.name for v in whole.trainable_variables]
    arguments = {"mask": some_mask(), "training": True}
    expected = gradients(stepped, normal(*SHAPE), **arguments)
    expect_same(gradients(whole, normal(*SHAPE), **arguments), expected, atol=1e-5)


@pytest.mark.parametrize("make", [keras.layers.RNN, kk.layers.RNN])
def test_the_cell_inside_draws_once_for_a_sequence(make):
    """alpha = 0 leaves the cell as it is, its draws included."""
    alone = filled(make(kk.layers.LSTMCell(5, dropout=0.4, recurrent_dropout=0.4, seed=2), return_sequences=True))
    cell = LeakyCell(kk.layers.LSTMCell(5, dropout=0.4, recurrent_dropout=0.4, seed=2), 0.0)
    around = filled(make(cell, return_sequences=True), like=alone)
    for _ in range(2):
        expect_same(around(normal(*SHAPE), training=True), alone(normal(*SHAPE), training=True))


def test_time_constants_are_uniform_on_the_logarithm():
    cell = LeakyCell(keras.layers.SimpleRNNCell(4000, recurrent_initializer="zeros"), "sampled", (2.0, 200.0), seed=0)
    cell.build((None, 1))
    assert not cell.leak.trainable
    logarithm = np.log(-1 / np.log(array(cell.leak).astype("float64")))
    share, _ = np.histogram(logarithm, bins=4, range=(np.log(2), np.log(200)))
    assert share.sum() == 4000
    # Four standard deviations of a count of 4000 at a quarter.
    assert np.abs(share - 1000).max() < 4 * np.sqrt(4000 * 3 / 16)


def test_a_sampled_alpha_is_drawn_once_and_saved(tmp_path):
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.RNN(LeakyCell(keras.layers.GRUCell(5), "sampled"))])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expect_same(loaded(normal(*SHAPE)), model(normal(*SHAPE)), rtol=0, atol=0)


def test_a_learned_alpha_finds_the_time_constant_of_its_target():
    """Filtered noise is told from its inputs; alpha starts elsewhere."""
    x = normal(64, 30, 1)
    target, level = np.zeros_like(x), np.zeros((64, 1), "float32")
    for t in range(30):
        level = 0.8 * level + 0.2 * np.tanh(x[:, t])
        target[:, t] = level
    layer = kk.layers.RNN(LeakyCell(no_memory(1), "learned", (1.5, 1.5)), return_sequences=True)
    layer.cell.cell.trainable = False
    model = keras.Sequential([keras.Input((30, 1)), layer])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(x, target, epochs=120, batch_size=64, verbose=0)
    assert abs(float(array(layer.cell.current_alpha())[0]) - 0.8) < 0.01


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 1.5}, ValueError, "LeakyCell: expected 0 <= alpha <= 1; got alpha=1.5"),
        ({"alpha": -0.1}, ValueError, "0 <= alpha <= 1"),
        ({"alpha": float("nan")}, ValueError, "a finite alpha"),
        ({"alpha": "fixed"}, ValueError, 'a number in [0, 1], "sampled" or "learned" for alpha'),
        ({"alpha": None}, TypeError, "a number for alpha"),
        ({"time_constants": (0.0, 1.0)}, ValueError, "0 < least <= largest"),
        ({"time_constants": (5.0, 1.0)}, ValueError, "0 < least <= largest"),
        ({"time_constants": 3.0}, ValueError, "two time_constants"),
        ({"seed": 1.5}, TypeError, "an integer for seed"),
        ({"cell": keras.layers.Dense(3)}, TypeError, "a recurrent cell"),
        ({"cell": kk.layers.LSTMCell(3, output_cell_state=True)}, ValueError, "a cell whose output is its first state"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message.replace("[", r"\[")):
        LeakyCell(**{"cell": keras.layers.SimpleRNNCell(3), **arguments})
