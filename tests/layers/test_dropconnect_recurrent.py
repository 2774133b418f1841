"""DropConnect around recurrent layers: one mask for each kernel and sequence."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.layers import DropConnect


def array(x):
    return np.array(ops.convert_to_numpy(x))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


RECURRENT = {
    "SimpleRNN": lambda **kwargs: layers.SimpleRNN(3, **kwargs),
    "GRU": lambda **kwargs: layers.GRU(3, **kwargs),
    "GRU-before": lambda **kwargs: layers.GRU(3, reset_after=False, **kwargs),
    "LSTM": lambda **kwargs: layers.LSTM(3, **kwargs),
    "stacked": lambda **kwargs: layers.RNN([layers.LSTMCell(3), layers.GRUCell(3)], **kwargs),
}


def test_both_kernels_of_a_simple_rnn_are_masked_for_the_whole_sequence():
    """A linear layer with kernels of ones answers with its masks, and with their powers in later steps."""
    units, inputs, rate = 40, 50, 0.25
    ones = {"kernel_initializer": "ones", "recurrent_initializer": "ones"}
    cell = layers.SimpleRNN(units, activation=None, return_sequences=True, **ones)
    wrapper = DropConnect(cell, rate, seed=1)
    # The first examples start at zero and see a unit input; the others start at a unit state and see nothing.
    x = np.zeros((inputs + units, 3, inputs), "float32")
    x[:inputs, 0] = np.eye(inputs)
    state = np.concatenate([np.zeros((inputs, units)), np.eye(units)]).astype("float32")
    wrapper.build(x.shape)
    y = array(wrapper(x, training=True, initial_state=ops.convert_to_tensor(state)))
    kernel, recurrent = y[:inputs, 0], y[inputs:, 0]
    for mask in (kernel, recurrent):
        np.testing.assert_allclose(mask[mask != 0], 1 / (1 - rate), rtol=1e-6)
        assert abs((mask == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / mask.size)
    np.testing.assert_allclose(y[:, 1], y[:, 0] @ recurrent, rtol=1e-5)
    np.testing.assert_allclose(y[:, 2], y[:, 1] @ recurrent, rtol=1e-5)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_sequence_is_its_steps_with_the_same_masks(name):
    wrapper = DropConnect(RECURRENT[name](return_sequences=True, return_state=True), 0.5, seed=1)
    x = normal(2, 5, 4)
    wrapper.build(x.shape)
    start = array(wrapper.seed_generator.state)
    outputs, *_ = wrapper(x, training=True)
    again, *_ = wrapper(x, training=True)
    plain, *_ = wrapper(x)
    assert np.abs(array(outputs) - array(again)).max() > 0.01
    assert np.abs(array(outputs) - array(plain)).max() > 0.01

    states, steps = None, []
    for t in range(x.shape[1]):
        wrapper.seed_generator.state.assign(start)
        step, *states = wrapper(x[:, t : t + 1], training=True, initial_state=states)
        steps.append(array(step))
    np.testing.assert_allclose(np.concatenate(steps, axis=1), array(outputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "GRU-before", "LSTM"])
def test_biases_of_cells_are_never_dropped(name):
    """Zeros in, zeros as the first state: the first step is a function of the biases alone."""
    layer = RECURRENT[name]()
    wrapper = DropConnect(layer, 0.9, seed=1)
    x = np.zeros((2, 1, 4), "float32")
    wrapper.build(x.shape)
    for variable in layer.trainable_variables:
        if variable.name == "bias":
            variable.assign(normal(*variable.shape))
    y = array(layer(x))
    assert np.abs(y).min() > 0
    np.testing.assert_array_equal(array(wrapper(x, training=True)), y)


def test_stacked_cells_have_a_mask_for_each_kernel():
    """Two linear cells with kernels of ones: the second sees what the first lets through."""
    cells = [
        layers.SimpleRNNCell(30, activation=None, kernel_initializer="ones"),
        layers.SimpleRNNCell(20, activation=None, kernel_initializer="ones"),
    ]
    wrapper = DropConnect(layers.RNN(cells, return_state=True), 0.5, seed=1)
    x = np.eye(30, dtype="float32")[:, None]
    _, first, second = (array(value).reshape(30, -1) for value in wrapper(x, training=True))
    assert set(np.unique(first)) == {0.0, 2.0}
    # 30 outputs of the first cell times a mask of the second: solved exactly, since the first mask is invertible.
    mask = np.linalg.lstsq(first.astype("float64"), second.astype("float64"), rcond=None)[0]
    assert np.linalg.matrix_rank(first) == 30
    np.testing.assert_allclose(mask, np.where(mask > 1, 2.0, 0.0), atol=1e-3)
    assert abs((mask > 1).mean() - 0.5) < 5 * 0.5 / np.sqrt(mask.size)
    assert np.any(mask != first[:, :20])


def test_both_directions_of_a_bidirectional_layer_are_masked():
    """Linear layers with kernels of ones: one step answers with the input kernels, and each has its own mask."""
    cell = layers.SimpleRNN(40, activation=None, kernel_initializer="ones")
    wrapper = DropConnect(layers.Bidirectional(cell, merge_mode="concat"), 0.25, seed=1)
    masks = array(wrapper(np.eye(50, dtype="float32")[:, None], training=True))
    np.testing.assert_allclose(masks[masks != 0], 4 / 3, rtol=1e-6)
    assert np.any(masks[:, :40] != masks[:, 40:])
    for mask in (masks[:, :40], masks[:, 40:]):
        assert abs((mask == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / mask.size)


def test_a_bidirectional_layer_runs_each_direction_under_one_mask():
    """Each direction is causal in its own sense: a prefix or a suffix with the same masks has the same outputs."""
    wrapper = DropConnect(layers.Bidirectional(layers.LSTM(3, return_sequences=True)), 0.5, seed=1)
    x = normal(2, 5, 4)
    wrapper.build(x.shape)
    start = array(wrapper.seed_generator.state)
    whole = array(wrapper(x, training=True))
    wrapper.seed_generator.state.assign(start)
    prefix = array(wrapper(x[:, :3], training=True))
    wrapper.seed_generator.state.assign(start)
    suffix = array(wrapper(x[:, 2:], training=True))
    np.testing.assert_allclose(prefix[..., :3], whole[:, :3, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(suffix[..., 3:], whole[:, 2:, 3:], rtol=1e-5, atol=1e-6)


def test_the_state_of_a_stateful_layer_is_updated():
    """With no rate to speak of it is the plain layer, state after state."""
    wrapper = DropConnect(layers.LSTM(3, stateful=True), 1e-9, seed=1)
    plain = layers.LSTM(3, stateful=True)
    x = normal(2, 5, 4)
    wrapper.build(x.shape)
    plain.build(x.shape)
    for variable, source in zip(plain.trainable_variables, wrapper.layer.trainable_variables, strict=True):
        variable.assign(source)
    for _ in range(3):
        np.testing.assert_allclose(array(wrapper(x, training=True)), array(plain(x)), rtol=1e-5, atol=1e-6)
    wrapper.layer.reset_state()
    plain.reset_state()
    np.testing.assert_allclose(array(wrapper(x, training=True)), array(plain(x)), rtol=1e-5, atol=1e-6)


def test_masks_of_time_steps_and_first_states_reach_the_layer():
    wrapper = DropConnect(layers.GRU(3), 1e-9, seed=1)
    x, state = normal(2, 5, 4), normal(2, 3, seed=1)
    mask = np.array([[True, True, False, False, False], [True] * 5])
    wrapper.build(x.shape)
    arguments = {"mask": ops.convert_to_tensor(mask), "initial_state": ops.convert_to_tensor(state)}
    got = array(wrapper(x, training=True, **arguments))
    np.testing.assert_allclose(got, array(wrapper.layer(x, **arguments)), rtol=1e-5, atol=1e-6)
    short = wrapper.layer(x[:1, :2], initial_state=ops.convert_to_tensor(state[:1]))
    np.testing.assert_allclose(got[:1], array(short), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_trains(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler at run time")
    model = keras.Sequential(
        [keras.Input((6, 4)), DropConnect(layers.LSTM(16), 0.2, seed=1), layers.Dense(1)],
    )
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=jit_compile)
    x = normal(64, 6, 4)
    losses = model.fit(x, x[:, -1, :1], epochs=15, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
