"""What TruncatedBPTT refuses."""

import keras
import numpy as np
import pytest

from keras_kicks.models import TruncatedBPTT

pytestmark = pytest.mark.tensorflow


def network(*layers, steps=None):
    layers = layers or (keras.layers.GRU(2, return_sequences=True),)
    return keras.Sequential([keras.Input((steps, 3)), *layers])


class Unrolled(keras.layers.Layer):
    """Runs a cell by itself, from zeros in each call."""

    def __init__(self):
        super().__init__()
        self.cell = keras.layers.SimpleRNNCell(2)

    def call(self, x):
        return keras.ops.expand_dims(self.cell(x[:, 0], [keras.ops.zeros_like(x[:, 0, :2])])[0], 1)


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
        ([Unrolled(), keras.layers.GRU(2, return_sequences=True)], "recurrent cells that a keras.layers.RNN runs"),
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


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_batch_of_another_size_for_states_that_flow(run_eagerly):
    import tensorflow as tf

    tbptt = TruncatedBPTT(network(), 3, stateful=True)
    tbptt.compile("sgd", "mse", jit_compile=False, run_eagerly=run_eagerly)
    tbptt.fit(np.zeros((4, 6, 3)), np.zeros((4, 6, 2)), batch_size=4, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the same number of sequences in each batch"):
        tbptt.fit(np.zeros((3, 6, 3)), np.zeros((3, 6, 2)), batch_size=3, verbose=0)


def test_convolutional_recurrent_layers():
    layer = keras.layers.ConvLSTM1D(3, 3, padding="same", return_sequences=True)
    with pytest.raises(ValueError, match="recurrent layers without convolutions"):
        TruncatedBPTT(keras.Sequential([keras.Input((None, 8, 2)), layer]), 3)


def test_first_states_that_the_model_gives():
    inputs = keras.Input((None, 3))
    first = keras.layers.Dense(2)(inputs[:, 0])
    rows = keras.layers.GRU(2, return_sequences=True)(inputs, initial_state=first)
    tbptt = TruncatedBPTT(keras.Model(inputs, rows), 3)
    tbptt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a model that does not pass initial_state to a recurrent layer"):
        tbptt.fit(np.zeros((2, 6, 3)), np.zeros((2, 6, 2)), verbose=0)


def test_sums_of_chunks_that_would_be_averaged():
    tbptt = TruncatedBPTT(network(), 3, updates="sequence")
    tbptt.compile("sgd", keras.losses.MeanSquaredError(reduction="sum"))
    with pytest.raises(ValueError, match=r"losses that are means .* got reductions=\['sum'\]"):
        tbptt.fit(np.zeros((2, 6, 3)), np.zeros((2, 6, 2)), verbose=0)


def test_lengths_that_differ_and_are_unknown():
    import tensorflow as tf

    signature = tf.TensorSpec((2, None, 3)), tf.TensorSpec((2, None, 2))
    batch = np.zeros((2, 6, 3)), np.zeros((2, 9, 2))
    tbptt = TruncatedBPTT(network(), 3)
    tbptt.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="inputs and labels of the same number of steps"):
        tbptt.fit(
            tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=signature), shuffle=False, verbose=0
        )


def test_an_unknown_length_for_xla():
    import tensorflow as tf

    signature = tf.TensorSpec((2, None, 3)), tf.TensorSpec((2, None, 2))
    tbptt = TruncatedBPTT(network(), 3, 6)
    tbptt.compile("sgd", "mse", jit_compile=True)
    batches = tf.data.Dataset.from_generator(lambda: iter([]), output_signature=signature)
    with pytest.raises(ValueError, match="a known number of steps for k2 > k1 and jit_compile=True"):
        tf.function(tbptt.train_step).get_concrete_function(batches.element_spec)
