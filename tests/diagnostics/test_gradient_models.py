"""Gradients through time in all kinds of models, and that these stay as they are."""

import keras
import numpy as np
import pytest
from diagnostics.recurrent_models import ReadoutCell, data, randomize, sequential
from keras import ops

from keras_kicks.diagnostics import gradient_through_time

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no gradients by inner tensors")

L = keras.layers


def masked(layer, x, taken, head=True):
    """Return a model of (x, mask) and its inputs."""
    inputs = [keras.Input(x.shape[1:]), keras.Input(taken.shape[1:], dtype="bool")]
    hidden = layer(inputs[0], mask=inputs[1])
    return keras.Model(inputs, L.Dense(2, name="head")(hidden) if head else hidden), [x, taken]


@pytest.mark.parametrize("kind", [L.SimpleRNN, L.LSTM, L.GRU])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"go_backwards": True}, {"return_sequences": True}, {"return_sequences": True, "zero_output_for_mask": True}],
)
def test_a_masked_step_is_no_step(kind, arguments):
    """A sample has the norms that it has alone, without the steps that are masked, and NaN beyond."""
    x = data(3, 6)
    taken = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0]], bool)
    model, inputs = masked(kind(4, name="rnn", **arguments), x, taken)
    randomize(model)
    norms = gradient_through_time(model, inputs)["rnn"].norms
    alone = sequential(kind(4, name="rnn", **arguments), L.Dense(2))
    alone.set_weights(model.get_weights())
    for sample, steps, row in zip(x, taken, norms, strict=True):
        expected = gradient_through_time(alone, sample[None, steps])["rnn"].norms[0]
        np.testing.assert_allclose(row[: steps.sum()], expected, rtol=1e-5)
        assert np.isnan(row[steps.sum() :]).all()


def test_a_row_without_steps_has_no_norms():
    model, inputs = masked(L.GRU(4), data(2, 3), np.array([[1, 1, 0], [0, 0, 0]], bool))
    (curve,) = gradient_through_time(model, inputs).curves
    assert curve.norms.shape == (2, 2)
    assert np.isnan(curve.norms[1]).all()
    np.testing.assert_array_equal(curve.median, curve.norms[0])


def test_masked_outputs_are_those_of_keras():
    """What the model returns while it is measured is what it returns."""
    x, taken = data(3, 5), np.random.default_rng(1).random((3, 5)) < 0.6
    for layer in (
        L.LSTM(4, return_sequences=True, return_state=True),
        L.GRU(4, return_sequences=True, zero_output_for_mask=True, go_backwards=True),
        L.RNN([L.LSTMCell(3), ReadoutCell(), L.GRUCell(2)], return_sequences=True, return_state=True),
    ):
        model, inputs = masked(layer, x, taken, head=False)
        outputs = []

        def loss(y, outputs=outputs):
            outputs.append(y)
            return ops.sum(keras.tree.flatten(y)[0])

        gradient_through_time(model, inputs, loss=loss)
        got, expected = (keras.tree.flatten(y) for y in (outputs[0], model(inputs)))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-5, atol=1e-6)


def test_both_directions_have_their_curve():
    both = randomize(sequential(L.Bidirectional(L.LSTM(3, name="lstm"), name="both")))
    alone = sequential(L.LSTM(3, name="alone"))
    x = data()

    def loss(h):
        return ops.sum(h**2)

    result = gradient_through_time(both, x, loss=loss)
    assert [curve.layer for curve in result.curves] == ["both/forward_lstm", "both/backward_lstm"]
    for curve, weights, order in zip(result.curves, (slice(3), slice(3, 6)), (1, -1), strict=True):
        alone.set_weights(both.get_weights()[weights])
        expected = gradient_through_time(alone, x[:, ::order], loss=loss)["alone"].norms
        np.testing.assert_allclose(curve.norms, expected, rtol=1e-5)


def test_stacked_cells_have_the_curves_of_stacked_layers():
    cells = [L.LSTMCell(3, name="low"), L.GRUCell(2, name="high")]
    stacked = randomize(sequential(L.RNN(cells, name="rnn"), L.Dense(1)))
    layers = sequential(L.LSTM(3, return_sequences=True, name="low"), L.GRU(2, name="high"), L.Dense(1))
    layers.set_weights(stacked.get_weights())
    got, expected = (gradient_through_time(model, data()) for model in (stacked, layers))
    assert [curve.layer for curve in got.curves] == ["rnn/low", "rnn/high"]
    for a, b in zip(got.curves, expected.curves, strict=True):
        np.testing.assert_allclose(a.norms, b.norms, rtol=1e-5)
    memory = gradient_through_time(stacked, data(), state=1)
    assert [curve.layer for curve in memory.curves] == ["rnn/low"]


def test_layers_can_be_chosen():
    inner = keras.Sequential([keras.Input((None, 4)), L.GRU(3, name="deep")], name="inner")
    model = randomize(sequential(L.LSTM(4, return_sequences=True, name="first"), inner))
    everything = gradient_through_time(model, data())
    assert [curve.layer for curve in everything.curves] == ["first", "inner/deep"]
    for names, paths in (("deep", ["inner/deep"]), (["inner/deep"], ["inner/deep"]), (("first",), ["first"])):
        result = gradient_through_time(model, data(), layers=names)
        assert [curve.layer for curve in result.curves] == paths
        np.testing.assert_allclose(result[paths[0]].norms, everything[paths[0]].norms, rtol=1e-5)
    with pytest.raises(KeyError, match="'first', 'inner/deep'"):
        everything["deep"]


def test_every_call_of_a_shared_layer_has_its_curve():
    shared, inputs = L.SimpleRNN(3, name="shared"), [keras.Input((4, 2)), keras.Input((6, 2))]
    model = keras.Model(inputs, L.Add()([shared(x) for x in inputs]))
    result = gradient_through_time(model, [data(2, 4), data(2, 6)])
    assert [(curve.layer, len(curve.lags)) for curve in result.curves] == [("shared", 4), ("shared (call 2)", 6)]


def test_an_encoder_has_the_gradient_that_comes_by_its_last_state():
    inputs = [keras.Input((4, 2)), keras.Input((3, 2))]
    _, *states = L.LSTM(3, return_state=True, name="encoder")(inputs[0])
    model = keras.Model(inputs, L.LSTM(3, name="decoder")(inputs[1], initial_state=states))
    one = sequential(L.LSTM(3, name="one"))
    randomize(one)
    model.set_weights([*one.get_weights(), *one.get_weights()])
    x = data(2, 7)
    result = gradient_through_time(model, [x[:, :4], x[:, 4:]])
    expected = gradient_through_time(one, x)["one"].norms
    np.testing.assert_allclose(result["decoder"].norms, expected[:, :3], rtol=1e-5)
    np.testing.assert_allclose(result["encoder"].norms, expected[:, 3:], rtol=1e-5)


def test_other_models_work():
    inputs = {
        "film": keras.Input((4, 6, 6, 1), name="film"),
        "words": keras.Input((5,), dtype="int32", name="words"),
    }
    film = L.Flatten()(L.ConvLSTM2D(2, 3, name="clouds")(inputs["film"]))
    words = L.GRU(3, name="gru")(L.Embedding(9, 4, mask_zero=True)(inputs["words"]))
    model = keras.Model(inputs, {"sum": L.Dense(1)(L.Concatenate()([film, words])), "words": words})
    x = {
        "film": np.random.default_rng(0).normal(size=(2, 4, 6, 6, 1)),
        "words": np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]),
    }
    result = gradient_through_time(model, x)
    assert result["clouds"].norms.shape == (2, 4)
    assert np.isfinite(result["clouds"].norms).all()
    assert np.isfinite(result["gru"].norms).sum(axis=1).tolist() == [3, 5]


class Plain(keras.Model):
    """A model of one's own, whose call takes no `training`."""

    def __init__(self):
        super().__init__()
        self.rnn = L.GRU(3, name="rnn")

    def call(self, x):
        return self.rnn(x)


def test_subclassed_models_and_single_layers_work():
    model, x = Plain(), data()
    model(x)
    norms = gradient_through_time(model, x)["rnn"].norms
    np.testing.assert_array_equal(gradient_through_time(model.rnn, x)["rnn"].norms, norms)


class Inference(keras.Model):
    """A model that runs its layer without dropout, also in training."""

    def __init__(self):
        super().__init__()
        self.rnn = L.LSTM(3, dropout=0.5, recurrent_dropout=0.5, name="rnn")

    def call(self, x, training=False):
        return self.rnn(x, training=False)


def test_a_cell_gets_the_training_flag_of_its_layer():
    model, x = Inference(), data()
    model(x)
    results = [gradient_through_time(model, x, training=training)["rnn"].norms for training in (False, True)]
    np.testing.assert_array_equal(*results)


class Halving(L.Layer):
    """h' = h / 2, whatever the input."""

    state_size = 2

    def call(self, inputs, states):
        return states[0] / 2, [states[0] / 2]


def test_a_cell_without_weights_and_inputs_has_gradients():
    """The output is made beside the last state and not of it: dL/dh is 0 at lag 0, and then 1/2, 1/4, ..."""
    (curve,) = gradient_through_time(sequential(L.RNN(Halving())), data(2, 5)).curves
    np.testing.assert_allclose(curve.norms, [[0, 1 / 2, 1 / 4, 1 / 8, 1 / 16]] * 2, rtol=1e-6)


def test_frozen_layers_have_gradients_too():
    model = randomize(sequential(L.SimpleRNN(4), L.Dense(1)))
    expected = gradient_through_time(model, data()).curves[0].norms
    model.trainable = False
    np.testing.assert_array_equal(gradient_through_time(model, data()).curves[0].norms, expected)


@pytest.mark.tensorflow  # On torch, Keras's stateful layers fail in the step after one of training.
def test_the_model_is_as_before():
    inputs = keras.Input((5, 2), batch_size=3)
    hidden = L.LSTM(4, name="lstm", stateful=True, dropout=0.5, recurrent_dropout=0.5, return_sequences=True, seed=1)(
        inputs
    )
    hidden = L.BatchNormalization()(hidden)
    model = keras.Model(inputs, {"a": L.Dense(1)(hidden[:, -1]), "b": L.GRU(2, stateful=True)(hidden)})
    model.compile("sgd", {"a": "mse", "b": "mse"}, metrics={"a": "mae"})
    x, y = data(3, 5), {"a": np.ones((3, 1)), "b": np.ones((3, 2))}
    model.train_on_batch(x, y)

    def state():
        recurrent = [v for layer in model.layers for v in getattr(layer, "states", None) or []]
        values = [*model.variables, *model.metrics_variables, *recurrent]
        return [np.array(ops.convert_to_numpy(v)) for v in values]

    before = state()
    assert any(np.abs(value).max() > 0 for value in before[-3:])
    results = [gradient_through_time(model, x, y, training=training) for training in (False, True, True)]
    gradient_through_time(model, x, layers="lstm")
    for a, b in zip(state(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for layer in model.layers:
        assert "inner_loop" not in vars(layer)
    norms = [np.concatenate([curve.norms for curve in result.curves]) for result in results]
    np.testing.assert_array_equal(norms[1], norms[2])
    assert np.abs(norms[0] - norms[1]).max() > 1e-6


def test_the_first_states_of_a_stateful_layer_count():
    model = keras.Sequential([keras.Input((5, 2), batch_size=3), L.SimpleRNN(4, stateful=True)])
    fresh = gradient_through_time(model, data(3, 5)).curves[0].norms
    model(data(3, 5, seed=1))
    later = gradient_through_time(model, data(3, 5)).curves[0].norms
    assert np.abs(fresh - later)[:, 1:].min() > 1e-6


def test_the_model_is_as_before_an_error_too():
    model = sequential(L.GRU(3))

    def loss(y):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        gradient_through_time(model, data(), loss=loss)
    assert "inner_loop" not in vars(model.layers[0])


def test_targets_and_a_loss_of_ones_own():
    model = randomize(sequential(L.GRU(3), L.Dense(1)))
    x, y = data(), np.ones((3, 1), "float32")
    mean = gradient_through_time(model, x, y, loss=lambda y, outputs: ops.mean((y - outputs) ** 2)).curves[0].norms
    model.compile("sgd", "mse")
    np.testing.assert_allclose(gradient_through_time(model, x, y).curves[0].norms, mean, rtol=1e-5)
