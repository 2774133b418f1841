"""Gradients through time against closed forms, torch and difference quotients."""

import keras
import numpy as np
import pytest
from diagnostics.recurrent_models import ReadoutCell, data, randomize, sequential
from keras import ops

from keras_kicks.diagnostics import gradient_through_time
from keras_kicks.layers import GRU, LSTM, RNN, LeakyCell, SkipCell

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no gradients by inner tensors")

L = keras.layers


def test_a_linear_network_multiplies_by_its_transposed_kernel_in_each_step():
    """h_t = h_{t-1} W + x_t V and L = h_T . g: dL/dh_t = W^lag g, or (W^T)^lag g where states are columns."""
    model = randomize(sequential(L.SimpleRNN(4, activation=None)))
    kernel = ops.convert_to_numpy(model.layers[0].cell.recurrent_kernel).astype("float64")
    g = np.array([1.0, -2.0, 3.0, 0.5])
    result = gradient_through_time(model, data(steps=9), loss=lambda h: ops.sum(h * ops.cast(g, "float32")))
    (curve,) = result.curves
    expected = [np.linalg.norm(np.linalg.matrix_power(kernel, lag) @ g) for lag in range(9)]
    assert curve.lags.tolist() == list(range(9))
    np.testing.assert_allclose(curve.norms, np.broadcast_to(expected, (3, 9)), rtol=1e-5)


def torch_states(kind, cell, x):
    """Run a cell of torch over a batch, and return the output and the states of each step, which keep gradients."""
    import torch

    def keep(state):
        state.retain_grad()
        return state

    h = torch.zeros(len(x), cell.hidden_size, requires_grad=True)
    c, hidden, memory = torch.zeros_like(h), [], []
    for step in torch.tensor(x).unbind(1):
        if kind == "LSTM":
            h, c = cell(step, (h, c))
            memory.append(keep(c))
        else:
            h = cell(step, h)
        hidden.append(keep(h))
    return h, hidden, memory


def torch_weights(kind, cell):
    """Return the weights of a torch cell in Keras's order."""
    kernel, recurrent, bias, other = (p.detach().numpy().T for p in cell.parameters())
    if kind == "GRU":  # r, z, n in torch; z, r, h in Keras.
        order = [1, 0, 2]
        kernel, recurrent, bias, other = (
            np.concatenate([np.split(p, 3, axis=-1)[i] for i in order], axis=-1)
            for p in (kernel, recurrent, bias, other)
        )
        return [kernel, recurrent, np.stack([bias, other])]
    return [kernel, recurrent, bias + other]


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_norms_are_those_of_torch(kind):
    import torch

    torch.manual_seed(0)
    cell = getattr(torch.nn, {"SimpleRNN": "RNNCell"}.get(kind, f"{kind}Cell"))(2, 5)
    head = torch.nn.Linear(5, 1)
    x, y = data(4, 12), data(4, 1, 1)[:, 0]
    h, hidden, memory = torch_states(kind, cell, x)
    torch.nn.functional.mse_loss(head(h), torch.tensor(y)).backward()

    model = sequential(getattr(L, kind)(5, name="rnn"), L.Dense(1))
    model.layers[0].set_weights(torch_weights(kind, cell))
    model.layers[1].set_weights([p.detach().numpy().T for p in head.parameters()])
    model.compile("sgd", "mse")
    for state, expected in enumerate([hidden, memory] if kind == "LSTM" else [hidden]):
        norms = np.stack([h.grad.norm(dim=1).numpy() for h in reversed(expected)], axis=1)
        result = gradient_through_time(model, x, y, state=state)
        np.testing.assert_allclose(result["rnn"].norms, norms, rtol=2e-5)


def test_norms_are_those_of_difference_quotients_where_outputs_and_states_differ():
    model = randomize(sequential(L.RNN(ReadoutCell(), return_sequences=True)), scale=0.8)
    x, (w, u, v) = data(2, 6).astype("float64"), (weight.astype("float64") for weight in model.get_weights())

    def value(sample, t=None, change=0.0):
        """The sum of squares of all outputs, with h_t moved."""
        h, total = np.zeros(3), 0.0
        for i, step in enumerate(x[sample]):
            h = np.tanh(step @ w + h @ u) + (change if i == t else 0.0)
            total += np.sum((h @ v) ** 2)
        return total

    quotients = np.array(
        [
            [[(value(n, t, e) - value(n, t, -e)) / 2e-6 for e in 1e-6 * np.eye(3)] for t in reversed(range(6))]
            for n in range(2)
        ]
    )
    result = gradient_through_time(model, x, loss=lambda outputs: ops.sum(outputs**2))
    np.testing.assert_allclose(result.curves[0].norms, np.linalg.norm(quotients, axis=-1), rtol=1e-5)


@pytest.mark.tensorflow  # Keras computes in float64 throughout on TensorFlow alone.
def test_two_layers_have_the_gradient_that_later_layers_send_back():
    """By difference quotients in float64: run to step t, move the state, and run on from there."""
    keras.config.set_dtype_policy("float64")
    first, second, head = L.LSTM(3, return_sequences=True, name="first"), L.GRU(2, name="second"), L.Dense(1)
    model = randomize(sequential(first, second, head), scale=0.8)
    x = data(2, 5).astype("float64")
    whole = L.RNN(first.cell, return_sequences=True, return_state=True)

    def value(t, change):
        before, h, c = whole(x[:, :t])
        after, *_ = whole(x[:, t:], initial_state=[h + ops.cast(change, h.dtype), c])
        # The output of step t is the state that was moved.
        outputs = ops.concatenate([before[:, : t - 1], (h + ops.cast(change, h.dtype))[:, None], after], axis=1)
        return ops.convert_to_numpy(head(second(outputs)))[:, 0]

    result = gradient_through_time(model, x, loss=ops.sum)
    for lag in range(1, 5):
        moves = 1e-6 * np.eye(3)
        quotients = [(value(5 - lag, move) - value(5 - lag, -move)) / 2e-6 for move in moves]
        np.testing.assert_allclose(result["first"].norms[:, lag], np.linalg.norm(quotients, axis=0), rtol=1e-6)
    assert [curve.layer for curve in result.curves] == ["first", "second"]


def test_without_a_loss_it_is_a_random_direction_of_length_one():
    model = randomize(sequential(L.SimpleRNN(4)))
    first, second = (gradient_through_time(model, data()).curves[0] for _ in range(2))
    np.testing.assert_allclose(first.norms[:, 0], 1, rtol=1e-6)
    np.testing.assert_array_equal(first.norms, second.norms)
    probabilities = randomize(sequential(L.SimpleRNN(4), L.Dense(3, activation="softmax")))
    assert (gradient_through_time(probabilities, data()).curves[0].norms > 1e-4).all()


def test_without_a_loss_the_last_of_a_sequence_of_outputs_counts():
    one = randomize(sequential(L.SimpleRNN(4), L.Dense(3)))
    every = sequential(L.SimpleRNN(4, return_sequences=True), L.Dense(3))
    every.set_weights(one.get_weights())
    np.testing.assert_allclose(
        gradient_through_time(every, data()).curves[0].norms,
        gradient_through_time(one, data()).curves[0].norms,
        rtol=1e-6,
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    wide = randomize(sequential(L.GRU(4), L.Dense(1)))
    keras.config.set_dtype_policy(policy)
    narrow = sequential(L.GRU(4), L.Dense(1))
    narrow.set_weights(wide.get_weights())
    x = data()
    got, expected = (gradient_through_time(model, x).curves[0].norms for model in (narrow, wide))
    np.testing.assert_allclose(got, expected, rtol=0.1 if policy == "mixed_bfloat16" else 0.02)
    assert got.dtype == "float64"


def test_an_overflow_is_infinite_and_explodes():
    model = sequential(L.SimpleRNN(2, activation=None, use_bias=False))
    model.set_weights([np.zeros((2, 2)), 1e6 * np.eye(2) + 1e5])
    (curve,) = gradient_through_time(model, data(steps=12)).curves
    assert np.isfinite(curve.norms[:, :6]).all()
    assert np.isinf(curve.norms[:, -3:]).all()
    assert curve.verdict == "exploding"
    assert curve.rate == pytest.approx(1e6, rel=0.3)


def with_radius(radius):
    """A tanh network whose recurrent kernel is orthogonal, times a number."""
    model = sequential(L.SimpleRNN(32))
    kernel = model.layers[0].cell.recurrent_kernel
    kernel.assign(radius * ops.convert_to_tensor(kernel))
    return model


def with_forget_bias(bias):
    model = sequential(L.LSTM(32))
    values = np.zeros(128)
    values[32:64] = bias
    model.layers[0].cell.bias.assign(values)
    return model


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (lambda: with_radius(0.8), "vanishing"),
        (lambda: with_radius(2.5), "exploding"),
        (lambda: with_forget_bias(5.0), "healthy"),
    ],
)
def test_simple_networks_vanish_or_explode_and_a_remembering_lstm_does_not(make, verdict):
    (curve,) = gradient_through_time(make(), data(8, 100)).curves
    assert curve.verdict == verdict


def test_a_leaky_network_in_closed_form():
    """h' = a h + (1 - a) (x V + h W): dL/dh_t = (a + (1 - a) W)^lag g."""
    cell = LeakyCell(L.SimpleRNNCell(4, activation=None), alpha=0.75)
    model = randomize(sequential(RNN(cell)))
    w = ops.convert_to_numpy(cell.cell.recurrent_kernel).astype("float64")
    g = np.array([1.0, -2.0, 3.0, 0.5])
    (curve,) = gradient_through_time(model, data(), loss=lambda h: ops.sum(h * ops.cast(g, "float32"))).curves
    step = 0.75 * np.eye(4) + 0.25 * w
    expected = [np.linalg.norm(np.linalg.matrix_power(step, lag) @ g) for lag in range(7)]
    np.testing.assert_allclose(curve.norms, np.broadcast_to(expected, (3, 7)), rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_a_skip_connection_in_closed_form(masked):
    """h_t = x_t V + h_{t-1} U + h_{t-3} S: the gradient is G(lag) = U G(lag - 1) + S G(lag - 3)."""
    cell = SkipCell(L.SimpleRNNCell(4, activation=None), skip=3)
    front = [L.Masking()] if masked else []
    model = randomize(sequential(*front, RNN(cell)))
    kernel, recurrent = (weight.astype("float64") for weight in cell.cell.get_weights()[:2])
    g = np.array([1.0, -2.0, 3.0, 0.5])
    x = np.concatenate([data(steps=9), np.zeros((3, 2, 2))], axis=1) if masked else data(steps=9)
    (curve,) = gradient_through_time(model, x, loss=lambda h: ops.sum(h * ops.cast(g, "float32"))).curves
    expected = [g]
    for lag in range(1, 9):
        expected.append(recurrent @ expected[lag - 1] + (kernel[2:] @ expected[lag - 3] if lag >= 3 else 0))
    np.testing.assert_allclose(curve.norms, np.broadcast_to(np.linalg.norm(expected, axis=1), (3, 9)), rtol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_fast_layers_have_the_norms_of_keras(kind):
    ours, keras_own = (
        randomize(sequential(layers(4, name="rnn"))) for layers in ({"LSTM": LSTM, "GRU": GRU}[kind], getattr(L, kind))
    )
    for state in range(2 if kind == "LSTM" else 1):
        got, expected = (gradient_through_time(model, data(), state=state)["rnn"] for model in (ours, keras_own))
        np.testing.assert_allclose(got.norms, expected.norms, rtol=1e-5)
