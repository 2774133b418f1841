"""The variants of the LSTM, against torch and their equations in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from layers.recurrent.recurrent_layers import SHAPE, array, expect_same, filled, gradients, normal, some_mask

from keras_kicks.layers import LSTM, RNN, LSTMCell

UNITS = 5
# torch says that it takes another kernel.
WITH_PROJECTION = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(x, epsilon=1e-3):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def by_hand(layer, x):
    """The equations of the papers, one step after the other; returns h and c of all steps."""
    cell = layer.cell
    w = {v.name: array(v).astype("float64") for v in cell.trainable_variables}
    h, c = np.zeros((len(x), cell.state_size[0])), np.zeros((len(x), UNITS))
    names = "fgo" if cell.coupled_gates else "ifgo"

    def blocks(matrix):
        return dict(zip(names, np.split(matrix, len(names), axis=-1), strict=True))

    peephole = w.get("peephole_kernel")
    if cell.peephole == "diagonal":
        peephole = {name: np.diag(row) for name, row in zip(names.replace("g", ""), peephole, strict=True)}
    if cell.peephole == "full":
        peephole = dict(zip(names.replace("g", ""), np.split(peephole, len(names) - 1, axis=1), strict=True))
    hs, cs = [], []
    for t in range(x.shape[1]):
        a, b = x[:, t] @ w["kernel"], h @ w["recurrent_kernel"]
        if cell.layer_norm:
            a, b = layer_norm(a) * w["kernel_gamma"], layer_norm(b) * w["recurrent_gamma"]
        z = blocks(a + b + w["bias"])
        for name in "if":
            if peephole and name in z:
                z[name] = z[name] + c @ peephole[name]
        f, g = sigmoid(z["f"]), np.tanh(z["g"])
        i = 1 - f if cell.coupled_gates else sigmoid(z["i"])
        new = f * c + i * g
        o = sigmoid(z["o"] + (new @ peephole["o"] if peephole else 0))
        shown = layer_norm(new) * w["cell_gamma"] + w["cell_beta"] if cell.layer_norm else new
        out = o * np.tanh(shown)
        if cell.proj_units:
            out = out @ w["projection_kernel"]
        kept_h, kept_c = cell.zoneout
        h, c = kept_h * h + (1 - kept_h) * out, kept_c * c + (1 - kept_c) * new
        hs.append(h)
        cs.append(c)
    return np.stack(hs, 1), np.stack(cs, 1)


VARIANTS = {
    "plain": {},
    "diagonal": {"peephole": "diagonal"},
    "full": {"peephole": "full"},
    "coupled": {"coupled_gates": True},
    "coupled-diagonal": {"coupled_gates": True, "peephole": "diagonal"},
    "coupled-full": {"coupled_gates": True, "peephole": "full"},
    "layer-norm": {"layer_norm": True},
    "projection": {"proj_units": 3},
    "zoneout": {"zoneout": [0.125, 0.375]},
    "all": {"peephole": "full", "coupled_gates": True, "layer_norm": True, "proj_units": 3, "zoneout": 0.25},
}


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_values_are_those_of_the_equations(name, unroll):
    """In inference; unrolled, Keras's loop calls the cell."""
    options = {"return_sequences": True, "return_cell_sequences": True, "return_state": True, "unroll": unroll}
    layer = filled(LSTM(UNITS, **VARIANTS[name], **options))
    x = normal(*SHAPE)
    hs, cs = by_hand(layer, x)
    expect_same(layer(x), (hs, cs, hs[:, -1], cs[:, -1]))


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_are_those_of_the_plain_loop(name):
    """In training, with what is drawn for the sequence; zoneout draws in another order there."""
    options = {**VARIANTS[name], "dropout": 0.3, "recurrent_dropout": 0.3, "recurrent_dropconnect": 0.3, "zoneout": 0}
    whole, unrolled = (LSTM(UNITS, **options, seed=3, return_sequences=True, unroll=unroll) for unroll in (0, 1))
    filled(unrolled, like=filled(whole))
    arguments = {"mask": some_mask(), "training": True}
    expected = gradients(unrolled, normal(*SHAPE), **arguments)
    expect_same(gradients(whole, normal(*SHAPE), **arguments), expected, atol=1e-5)


@WITH_PROJECTION
@pytest.mark.parametrize(("options", "torch_options"), [({}, {}), ({"proj_units": 3}, {"proj_size": 3})])
@pytest.mark.parametrize("suffix", ["l0", "l0_reverse"])
def test_values_and_weights_are_those_of_torch(options, torch_options, suffix):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(4, UNITS, batch_first=True, bidirectional=True, **torch_options)
    backwards = suffix.endswith("reverse")
    layer = LSTM(UNITS, return_sequences=True, go_backwards=backwards, **options)
    layer.build(SHAPE)
    layer.from_torch(module.state_dict(), suffix)
    x = normal(*SHAPE)
    with torch.no_grad():
        y = module(torch.tensor(x))[0].numpy()
    width = y.shape[-1] // 2
    expected = y[:, ::-1, width:] if backwards else y[..., :width]
    np.testing.assert_allclose(array(layer(x)), expected, atol=1e-5)
    state = layer.to_torch(suffix)
    assert set(state) == {name for name in module.state_dict() if name.endswith(f"_{suffix}")}
    for name, value in state.items():
        if not name.startswith("bias"):
            np.testing.assert_array_equal(value, module.state_dict()[name].numpy())
    biases = [f"bias_ih_{suffix}", f"bias_hh_{suffix}"]
    expected = sum(module.state_dict()[name].numpy() for name in biases)
    np.testing.assert_allclose(sum(state[name] for name in biases), expected)


@pytest.mark.tensorflow
@WITH_PROJECTION
@pytest.mark.parametrize(("options", "torch_options"), [({}, {}), ({"proj_units": 3}, {"proj_size": 3})])
def test_gradients_are_those_of_torch(options, torch_options):
    import torch

    module = torch.nn.LSTM(4, UNITS, batch_first=True, **torch_options)
    layer = LSTM(UNITS, return_sequences=True, **options)
    layer.build(SHAPE)
    layer.from_torch(module.state_dict())
    x = torch.tensor(normal(*SHAPE), requires_grad=True)
    y = module(x)[0]
    (y * torch.tensor(normal(*y.shape, seed=9))).sum().backward()
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"] + ["weight_hr_l0"] * bool(options)
    expected = [x.grad.numpy(), *(getattr(module, name).grad.numpy().T for name in names)]
    expect_same(gradients(layer, normal(*SHAPE)), expected, rtol=1e-5, atol=1e-5)


def test_weights_that_do_not_fit_are_refused_and_none_is_taken():
    layer = filled(LSTM(UNITS))
    before = layer.get_weights()
    state = layer.to_torch()
    with pytest.raises(ValueError, match="LSTM: expected weights weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0"):
        layer.from_torch({"weight_ih_l0": state["weight_ih_l0"]})
    state["weight_hh_l0"] = state["weight_hh_l0"][:, :-1]
    with pytest.raises(ValueError, match=r"a recurrent_kernel of shape \(5, 20\); got shape=\(4, 20\)"):
        layer.from_torch(state)
    for a, b in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="a layer with the options that torch has"):
        filled(LSTM(UNITS, peephole="full")).to_torch()
    with pytest.raises(ValueError, match="a layer that is built"):
        LSTM(UNITS).from_torch(state)


@pytest.mark.parametrize("training", [False, True])
def test_whole_sequences_and_single_steps_draw_the_same(training):
    """The masks of inputs, states and connections: one of each for a sequence, in the same order."""
    options = {"dropout": 0.4, "recurrent_dropout": 0.4, "recurrent_dropconnect": 0.4, "seed": 3}
    whole = filled(LSTM(UNITS, return_sequences=True, **options))
    stepped = filled(keras.layers.RNN(LSTMCell(UNITS, **options), return_sequences=True), like=whole)
    x = normal(*SHAPE)
    for _ in range(2):
        expect_same(whole(x, training=training), stepped(x, training=training))
    assert training != np.allclose(array(whole(x, training=training)), array(whole(x, training=training)))


def test_recurrent_dropconnect_is_one_mask_for_a_batch_of_sequences():
    """With inputs and states alike in all rows and a linear part to see them by, rows and steps drop the same."""
    cell = LSTMCell(200, recurrent_dropconnect=0.25, seed=0, use_bias=False)
    cell.build((None, 1))
    cell.kernel.assign(np.zeros(cell.kernel.shape))
    cell.recurrent_kernel.assign(np.full(cell.recurrent_kernel.shape, 0.001))
    ones = np.ones((3, 200), "float32")
    output, _ = cell(np.ones((3, 1), "float32"), [ones, 0 * ones], training=True)
    rows = array(output)
    np.testing.assert_array_equal(rows[0], rows[1])
    # Columns keep about three of four of 200 entries, scaled by 4 / 3: their input varies around 0.2.
    assert 0.02 < rows[0].std() / rows[0].mean() < 0.4


@pytest.mark.parametrize("whole", [True, False] if keras.backend.backend() != "jax" else [True])
def test_zoneout_keeps_a_share_of_the_old_states(whole):
    units = 2000
    layer = LSTM(units, zoneout=[0.25, 0.5], seed=1, return_state=True, unroll=not whole, recurrent_initializer="zeros")
    layer.build((2, 1, 3))
    x, first = normal(2, 1, 3), [ops.convert_to_tensor(normal(2, units, seed=s)) for s in (1, 2)]
    _, *after = (array(state) for state in layer(x, initial_state=first, training=True))
    plain = LSTM(units, return_state=True, recurrent_initializer="zeros")
    plain.build((2, 1, 3))
    _, *new = filled(plain, like=layer)(x, initial_state=first)
    for rate, got, old, fresh in zip((0.25, 0.5), after, first, new, strict=True):
        kept = np.abs(got - array(old)) < 1e-6
        np.testing.assert_allclose(got[~kept], array(fresh)[~kept], atol=1e-6)
        # Four standard deviations of a share of 4000.
        assert abs(kept.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / kept.size)
        assert (kept[0] != kept[1]).any()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Only JAX's loop cannot draw.")
def test_zoneout_in_the_loop_of_jax_is_refused():
    layer = keras.layers.RNN(LSTMCell(UNITS, zoneout=0.2))
    with pytest.raises(ValueError, match="LSTMCell: expected zoneout to be drawn before the loop on JAX"):
        layer(normal(*SHAPE), training=True)
    assert tuple(layer(normal(*SHAPE)).shape) == (3, UNITS)


def test_every_step_draws_its_own_zoneout():
    layer = filled(LSTM(50, zoneout=0.5, seed=1, return_sequences=True))
    y = array(layer(np.zeros(SHAPE, "float32"), training=True))
    kept = y[:, 1:] == y[:, :-1]
    assert (kept[:, 0] != kept[:, 1]).any()


def test_the_bias_of_the_forget_gate():
    cell = LSTMCell(3, forget_bias=2.5)
    cell.build((None, 4))
    np.testing.assert_array_equal(array(cell.bias).reshape(4, 3)[:, 0], [0, 2.5, 0, 0])
    cell = LSTMCell(3, forget_bias=2.5, coupled_gates=True)
    cell.build((None, 4))
    np.testing.assert_array_equal(array(cell.bias).reshape(3, 3)[:, 0], [2.5, 0, 0])


def test_chrono_initialization_spreads_lags_evenly():
    """exp(b_f) is uniform on [1, T - 1] and b_i = -b_f (Tallec and Ollivier 2018, section 2)."""
    cell = LSTMCell(4000, chrono=101, seed=0, recurrent_initializer="zeros")
    cell.build((None, 1))
    i, f, g, o = array(cell.bias).reshape(4, -1)
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal([g, o], np.zeros((2, 4000)))
    lags = np.exp(f)
    assert lags.min() >= 1 - 1e-5
    assert lags.max() <= 100 + 1e-3
    share, _ = np.histogram(lags, bins=4, range=(1, 100))
    # Four standard deviations of a count of 4000 at a quarter.
    assert np.abs(share - 1000).max() < 4 * np.sqrt(4000 * 3 / 16)


def test_cell_sequences_keep_their_masks_and_shapes():
    layer = LSTM(UNITS, return_sequences=True, return_cell_sequences=True, return_state=True, proj_units=3)
    x = keras.Input((None, 4))
    outputs = layer(keras.layers.Masking()(x))
    assert [tuple(y.shape) for y in outputs] == [(None, None, 3), (None, None, 5), (None, 3), (None, 5)]
    assert layer.compute_output_shape((2, 6, 4)) == ((2, 6, 3), (2, 6, 5), (2, 3), (2, 5))
    h, c, *_ = layer(normal(*SHAPE), mask=some_mask())
    np.testing.assert_array_equal(array(h)[2], np.zeros((6, 3)))
    np.testing.assert_array_equal(array(c)[2], np.zeros((6, 5)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": 0}, ValueError, "LSTMCell: expected units >= 1; got units=0"),
        ({"units": 2.0}, TypeError, "an integer for units"),
        ({"peephole": "half"}, ValueError, "peephole to be one of None, 'diagonal', 'full'; got peephole='half'"),
        ({"dropout": 1.0}, ValueError, "0 <= dropout < 1; got dropout=1.0"),
        ({"recurrent_dropconnect": -0.1}, ValueError, "0 <= recurrent_dropconnect < 1"),
        ({"zoneout": [0.1, 0.1, 0.1]}, ValueError, "zoneout to be one number or one for each of h, c"),
        ({"zoneout": 1.5}, ValueError, "0 <= zoneout < 1; got zoneout=1.5"),
        ({"chrono": 2}, ValueError, "chrono > 2; got chrono=2. It is the longest lag to be learned, in steps"),
        ({"chrono": 9, "use_bias": False}, ValueError, "a bias for chrono; got use_bias=False"),
        ({"proj_units": 0}, ValueError, "proj_units >= 1"),
        ({"layer_norm_epsilon": 0}, ValueError, "layer_norm_epsilon > 0"),
        ({"forget_bias": "one"}, TypeError, "a number for forget_bias"),
        ({"return_cell_sequences": True}, ValueError, "return_sequences=True for return_cell_sequences=True"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message.replace("[", r"\[")):
        LSTM(**{"units": 3, **arguments})


def test_cell_states_of_both_directions_come_from_the_cell():
    """What the docstring of `return_cell_sequences` advises within `keras.layers.Bidirectional`."""
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    both = keras.layers.Bidirectional(RNN(LSTMCell(4, output_cell_state=True), return_sequences=True), merge_mode=None)
    forward, backward = both(x)
    for outputs, layer in ((forward, both.forward_layer), (backward, both.backward_layer)):
        single = LSTM(4, return_sequences=True, return_cell_sequences=True, go_backwards=layer.go_backwards)
        single.build(x.shape)
        single.set_weights(layer.get_weights())
        expected = ops.concatenate(single(x), axis=-1)
        expected = ops.flip(expected, axis=1) if layer.go_backwards else expected
        np.testing.assert_allclose(array(outputs), array(expected), rtol=1e-5, atol=1e-6)
