"""The variants of the GRU, against torch and their equations in NumPy."""

import keras
import numpy as np
import pytest
from layers.recurrent.recurrent_layers import SHAPE, array, expect_same, filled, gradients, normal, some_mask
from layers.recurrent.test_lstm import layer_norm, sigmoid

from keras_kicks.layers import GRU, GRUCell

UNITS = 5


def by_hand(layer, x, turned=1.0):
    """The equations, one step after the other; `turned` is the sign of what the update gate is computed from."""
    cell, u = layer.cell, UNITS
    w = {v.name: array(v).astype("float64") for v in cell.trainable_variables}
    bias = w["bias"] if cell.reset_after else np.stack([w["bias"], 0 * w["bias"]])
    h, rows = np.zeros((len(x), u)), []

    def product(rows, name, columns):
        y = rows @ w[name][:, columns]
        gamma = {"kernel": "kernel_gamma", "recurrent_kernel": "recurrent_gamma"}[name]
        return layer_norm(y) * w[gamma][columns] if cell.layer_norm else y

    gates, candidate = slice(0, 2 * u), slice(2 * u, None)
    for t in range(x.shape[1]):
        zr = product(x[:, t], "kernel", gates) + product(h, "recurrent_kernel", gates) + bias.sum(0)[gates]
        z, r = sigmoid(turned * zr[:, :u]), sigmoid(zr[:, u:])
        inner = product(h if cell.reset_after else r * h, "recurrent_kernel", candidate) + bias[1][candidate]
        n = np.tanh(
            product(x[:, t], "kernel", candidate) + (r * inner if cell.reset_after else inner) + bias[0][candidate]
        )
        mixed = z * h + (1 - z) * n if turned == 1 else (1 - z) * h + z * n
        h = cell.zoneout[0] * h + (1 - cell.zoneout[0]) * mixed
        rows.append(h)
    return np.stack(rows, 1)


VARIANTS = {
    "after": {},
    "before": {"reset_after": False},
    "after-norm": {"layer_norm": True},
    "before-norm": {"reset_after": False, "layer_norm": True},
    "zoneout": {"zoneout": 0.375},
}


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_values_are_those_of_the_equations(name, unroll):
    layer = filled(GRU(UNITS, **VARIANTS[name], return_sequences=True, return_state=True, unroll=unroll))
    hs = by_hand(layer, normal(*SHAPE))
    expect_same(layer(normal(*SHAPE)), (hs, hs[:, -1]))


def test_the_other_way_to_write_the_update_gate_is_the_same_unit_with_its_signs_turned():
    """(1 - z) h + z n, with z computed from the turned weights."""
    layer = filled(GRU(UNITS, reset_after=False, return_sequences=True))
    expect_same(layer(normal(*SHAPE)), by_hand(layer, normal(*SHAPE), turned=-1.0))


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_are_those_of_the_plain_loop(name):
    options = {**VARIANTS[name], "dropout": 0.3, "recurrent_dropout": 0.3, "recurrent_dropconnect": 0.3, "zoneout": 0}
    whole, unrolled = (GRU(UNITS, **options, seed=3, return_sequences=True, unroll=unroll) for unroll in (0, 1))
    filled(unrolled, like=filled(whole))
    arguments = {"mask": some_mask(), "training": True}
    expected = gradients(unrolled, normal(*SHAPE), **arguments)
    expect_same(gradients(whole, normal(*SHAPE), **arguments), expected, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_weights_are_those_of_torch(bias):
    torch = pytest.importorskip("torch")
    module = torch.nn.GRU(4, UNITS, batch_first=True, bias=bias)
    layer = GRU(UNITS, return_sequences=True, use_bias=bias)
    layer.build(SHAPE)
    layer.from_torch(module.state_dict())
    with torch.no_grad():
        expected = module(torch.tensor(normal(*SHAPE)))[0].numpy()
    np.testing.assert_allclose(array(layer(normal(*SHAPE))), expected, atol=1e-5)
    state = layer.to_torch()
    assert set(state) == set(module.state_dict())
    for name, value in state.items():
        np.testing.assert_array_equal(value, module.state_dict()[name].numpy())


@pytest.mark.tensorflow
def test_gradients_are_those_of_torch():
    import torch

    module = torch.nn.GRU(4, UNITS, batch_first=True)
    layer = GRU(UNITS, return_sequences=True)
    layer.build(SHAPE)
    layer.from_torch(module.state_dict())
    x = torch.tensor(normal(*SHAPE), requires_grad=True)
    y = module(x)[0]
    (y * torch.tensor(normal(*y.shape, seed=9))).sum().backward()

    def ours(name):
        """A gradient of torch in our order of the blocks: z, r, n."""
        r, z, n = np.split(getattr(module, name).grad.numpy(), 3, axis=0)
        return np.concatenate([z, r, n]).T

    bias = np.stack([ours("bias_ih_l0"), ours("bias_hh_l0")])
    expected = [x.grad.numpy(), ours("weight_ih_l0"), ours("weight_hh_l0"), bias]
    expect_same(gradients(layer, normal(*SHAPE)), expected, rtol=1e-5, atol=1e-5)


def test_units_that_torch_does_not_have_are_refused():
    for options in ({"reset_after": False}, {"layer_norm": True}):
        with pytest.raises(ValueError, match="GRU: expected a layer with reset_after=True and without layer_norm"):
            filled(GRU(UNITS, **options)).to_torch()


@pytest.mark.parametrize("training", [False, True])
def test_whole_sequences_and_single_steps_draw_the_same(training):
    options = {"dropout": 0.4, "recurrent_dropout": 0.4, "recurrent_dropconnect": 0.4, "seed": 3}
    whole = filled(GRU(UNITS, return_sequences=True, **options))
    stepped = filled(keras.layers.RNN(GRUCell(UNITS, **options), return_sequences=True), like=whole)
    expect_same(whole(normal(*SHAPE), training=training), stepped(normal(*SHAPE), training=training))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": 0}, ValueError, "GRUCell: expected units >= 1; got units=0"),
        ({"recurrent_dropout": 1}, ValueError, "0 <= recurrent_dropout < 1"),
        ({"zoneout": [0.1, 0.2]}, ValueError, "zoneout to be one number or one for each of h"),
        ({"layer_norm_epsilon": -1}, ValueError, "layer_norm_epsilon > 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        GRU(**{"units": 3, **arguments})
