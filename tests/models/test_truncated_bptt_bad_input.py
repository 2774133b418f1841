"""What TruncatedBPTT refuses."""

import keras
import numpy as np
import pytest

from keras_kicks.models import TruncatedBPTT

pytestmark = pytest.mark.tensorflow


def network(*layers, steps=None):
    layers = layers or (keras.layers.GRU(2, return_sequences=True),)
    return keras.Sequential([keras.Input((steps, 3)), *layers])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k1": 0}, ValueError, "TruncatedBPTT: expected k1 >= 1; got k1=0"),
        ({"k1": 2.0}, TypeError, "an integer for k1"),
        ({"k2": 2}, ValueError, "k2 to be a multiple of k1; got k1=3, k2=2"),
        ({"k2": 7}, ValueError, "k2 to be a multiple of k1; got k1=3, k2=7"),
        ({"updates": "step"}, ValueError, "updates to be one of 'chunk', 'sequence'; got updates='step'"),
        ({"model": "rnn"}, TypeError, "a keras model"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        TruncatedBPTT(**{"model": network(), "k1": 3, **arguments})


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.layers.Dense(2)], "a model with a recurrent layer"),
        ([keras.layers.GRU(2)], "return_sequences=True, go_backwards=False and stateful=False"),
        ([keras.layers.GRU(2, return_sequences=True, go_backwards=True)], "go_backwards=True"),
        ([keras.layers.Bidirectional(keras.layers.GRU(2, return_sequences=True))], r"got layers=\['Bidirectional'\]"),
        ([keras.layers.Conv1D(2, 3), keras.layers.GRU(2, return_sequences=True)], r"got layers=\['Conv1D'\]"),
    ],
)
def test_layers_that_cannot_be_cut(layers, message):
    with pytest.raises(ValueError, match=message):
        TruncatedBPTT(network(*layers), 3)


def test_a_stateful_layer():
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, None, 3)), keras.layers.GRU(2, return_sequences=True, stateful=True)]
    )
    with pytest.raises(ValueError, match="stateful=True"):
        TruncatedBPTT(model, 3)


def test_a_fixed_number_of_steps():
    with pytest.raises(ValueError, match=r"inputs have any number of steps; .* Make it with keras.Input\(\(None"):
        TruncatedBPTT(network(steps=12), 3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((2, 6, 3), (2, 2), "inputs and labels of the same number of steps"),
        ((2, 6, 3), (2,), r"inputs and labels of shape \(batch, steps, ...\)"),
        ((2, 6, 3), (2, 5, 2), "inputs and labels of the same number of steps"),
        ((2, 0, 3), (2, 0, 2), "at least one step"),
    ],
)
def test_data_that_does_not_fit(x, y, message):
    tbptt = TruncatedBPTT(network(), 3)
    tbptt.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        tbptt.fit(np.zeros(x, "float32"), np.zeros(y, "float32"), verbose=0)


def test_outputs_without_steps():
    inputs = keras.Input((None, 3))
    rows = keras.layers.GRU(2, return_sequences=True)(inputs)
    tbptt = TruncatedBPTT(keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, -1])(rows)), 3)
    tbptt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="an output for each step"):
        tbptt.fit(np.zeros((2, 6, 3)), np.zeros((2, 6, 2)), verbose=0)


def test_a_layer_that_is_called_twice():
    inputs, layer = keras.Input((None, 3)), keras.layers.GRU(3, return_sequences=True)
    tbptt = TruncatedBPTT(keras.Model(inputs, layer(layer(inputs))), 3)
    tbptt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a model that calls a recurrent layer once"):
        tbptt.fit(np.zeros((2, 6, 3)), np.zeros((2, 6, 3)), verbose=0)


def test_resets_that_are_missing():
    tbptt = TruncatedBPTT(network(), 3, resets=True)
    with pytest.raises(ValueError, match=r"inputs \[x, resets\] for resets=True"):
        tbptt(np.zeros((2, 6, 3), "float32"))


def test_an_unknown_batch_for_states_that_flow():
    tbptt = TruncatedBPTT(network(), 3, stateful=True)
    with pytest.raises(ValueError, match="a fixed batch size for stateful=True"):
        tbptt.build((None, None, 3))
