"""L0: its gates, its penalty in NumPy, and the plain layers that are made of it."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import L0


def array(x):
    return np.array(ops.convert_to_numpy(x))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "float64")))


def open_share(log_alpha, temperature=2 / 3, stretch=(-0.1, 1.1)):
    """The paper's probability that a gate is not 0."""
    return sigmoid(log_alpha - temperature * np.log(-stretch[0] / stretch[1]))


def spread(layer, seed=1):
    """Give the locations of a built layer different values, the first gate of each kernel closed."""
    for variable in layer.log_alphas:
        values = 3 * drawn(*variable.shape, seed=seed)
        values.flat[0] = -5.0
        variable.assign(values)
    return layer


def built(inner, shape, **arguments):
    layer = L0(inner, **{"weight": 0.1, "seed": 1, **arguments})
    layer.build((None, *shape[1:]))
    return spread(layer)


LAYERS = {
    "Dense": (lambda: keras.layers.Dense(4, "tanh", bias_initializer="normal"), (5, 6)),
    "Conv1D": (lambda: keras.layers.Conv1D(4, 3, bias_initializer="normal"), (5, 8, 3)),
    "Conv2D": (lambda: keras.layers.Conv2D(4, 3, padding="same", bias_initializer="normal"), (3, 5, 5, 2)),
    "Conv3D": (lambda: keras.layers.Conv3D(3, 2, bias_initializer="normal"), (2, 3, 3, 3, 2)),
    "Conv2DTranspose": (lambda: keras.layers.Conv2DTranspose(4, 2), (3, 4, 4, 2)),
    "DepthwiseConv2D": (lambda: keras.layers.DepthwiseConv2D(3), (3, 5, 5, 2)),
    "EinsumDense": (lambda: keras.layers.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d"), (3, 5, 6)),
    "LSTM": (lambda: keras.layers.LSTM(4, return_sequences=True), (3, 5, 6)),
    "Bidirectional": (lambda: keras.layers.Bidirectional(keras.layers.GRU(3)), (3, 5, 6)),
}
GROUPED = [
    *((name, gates) for name in ("Dense", "Conv1D", "Conv2D", "Conv3D") for gates in ("input", "output")),
    ("LSTM", "input"),
    ("Bidirectional", "input"),
    *((name, "weight") for name in LAYERS),
]


def kernel_under_gates(gates, training):
    """Return the kernel and the bias of a Dense layer as it acts, and the layer."""
    layer = built(keras.layers.Dense(40, bias_initializer="ones", kernel_initializer="ones"), (1, 30), gates=gates)
    layer.seed_generator.state.assign([5, 0])
    # Zero and the unit vectors, under one draw.
    y = array(layer(np.concatenate([np.zeros((1, 30)), np.eye(30)]).astype("float32"), training=training))
    return y[1:] - y[0], y[0], layer


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gates", ["weight", "input", "output"])
def test_groups_share_their_gates(gates, training):
    kernel, bias, layer = kernel_under_gates(gates, training)
    shape = {"weight": (30, 40), "input": (30, 1), "output": (1, 40)}[gates]
    assert tuple(layer.log_alphas[0].shape) == shape
    gate = {"weight": kernel, "input": kernel[:, :1], "output": kernel[:1]}[gates]
    np.testing.assert_allclose(kernel, np.broadcast_to(gate, kernel.shape), atol=1e-6)
    np.testing.assert_allclose(bias, gate[0] if gates == "output" else np.ones(40), atol=1e-6)
    if not training:
        expected = np.clip(sigmoid(array(layer.log_alphas[0])) * 1.2 - 0.1, 0, 1)
        np.testing.assert_allclose(gate, expected, atol=1e-6)
    assert (gate == 0).any()
    assert (np.abs(gate - 1) < 1e-6).any()


def test_gates_are_drawn_anew_in_training_alone():
    layer, x = built(keras.layers.Dense(20), (3, 30)), drawn(3, 30)
    assert (array(layer(x, training=True)) != array(layer(x, training=True))).any()
    np.testing.assert_array_equal(array(layer(x)), array(layer(x)))


@pytest.mark.parametrize(("name", "gates"), GROUPED)
def test_the_penalty_is_the_papers(name, gates):
    """The price of each gate times its weights, and the squares that are expected; once, however often it is called."""
    make, shape = LAYERS[name]
    layer = built(make(), shape, gates=gates, weight=0.3, l2=0.2)
    for _ in range(2):
        layer(drawn(*shape), training=True)
    kernels = [w for w in layer.layer.weights if w.name.endswith("kernel")]
    assert len(kernels) == len(layer.log_alphas)
    expected = count = 0.0
    for kernel, log_alpha in zip(kernels, layer.log_alphas, strict=True):
        probability = open_share(array(log_alpha))
        each = np.broadcast_to(probability, kernel.shape)
        expected += 0.3 * each.sum() + 0.2 * (each * array(kernel).astype("float64") ** 2).sum()
        count += each.sum()
        if gates == "output":
            bias = array(layer.layer.bias).astype("float64")
            expected += 0.3 * probability.sum() + 0.2 * (probability.ravel() * bias**2).sum()
            count += probability.sum()
    assert sum(float(array(loss)) for loss in layer.losses) == pytest.approx(expected, rel=1e-5)
    assert float(array(layer.expected_l0())) == pytest.approx(count, rel=1e-5)


def test_the_expected_count_is_the_mean_of_counts():
    """Of weights that training does not use, over 200 draws."""
    layer = built(keras.layers.Dense(40, use_bias=False, kernel_initializer="ones"), (1, 30))
    counts = [(array(layer(np.eye(30), training=True)) != 0).sum() for _ in range(200)]
    p = open_share(array(layer.log_alphas[0]))
    error = np.sqrt((p * (1 - p)).sum() / 200)
    assert abs(np.mean(counts) - float(array(layer.expected_l0()))) < 5 * error
    assert int(array(layer.active_weights())) == (array(layer(np.eye(30))) != 0).sum()


def test_frozen_gates_cost_nothing():
    layer = built(keras.layers.Dense(4), (1, 3))
    layer.trainable = False
    assert layer.losses == []


def test_the_wrapped_layer_is_not_changed():
    inner = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L1(1.0))
    layer, x = built(inner, (3, 5)), drawn(3, 5)
    before, plain = array(inner.kernel), array(inner(x))
    gated = array(layer(x, training=True))
    assert np.abs(gated - plain).max() > 0
    np.testing.assert_array_equal(array(inner.kernel), before)
    np.testing.assert_array_equal(array(inner(x)), plain)
    penalty = 0.1 * open_share(array(layer.log_alphas[0])).sum() + np.abs(before).sum()
    assert sum(float(array(loss)) for loss in layer.losses) == pytest.approx(penalty, rel=1e-5)


@pytest.mark.parametrize(("name", "gates"), GROUPED)
def test_the_plain_layer_is_the_layer_in_inference(name, gates):
    make, shape = LAYERS[name]
    layer = built(make(), shape, gates=gates)
    plain, x = layer.strip(), drawn(*shape)
    assert type(plain) is type(layer.layer)
    np.testing.assert_array_equal(array(plain(x)), array(layer(x)))
    zeros = sum((array(w) == 0).sum() for w in plain.weights)
    zeros -= sum((array(w) == 0).sum() for w in layer.layer.weights)
    total = sum(np.prod(w.shape) for w in layer.layer.weights if w.name.endswith("kernel"))
    total += layer.layer.bias.shape[0] if gates == "output" else 0
    assert zeros == total - int(array(layer.active_weights()))
    assert zeros > 0


@pytest.mark.tensorflow
def test_replicas_draw_the_same_gates(strategy):
    import tensorflow as tf

    with strategy.scope():
        layer = L0(keras.layers.Dense(40), seed=1)
        layer.build((None, 40))

    @tf.function
    def step():
        return strategy.run(lambda: layer(tf.ones((8, 40)), training=True))

    first, second = (y.numpy() for y in strategy.experimental_local_results(step()))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("mode", ["int8", "lora"])
def test_an_adapted_layer_is_refused(mode):
    layer = built(keras.layers.Dense(4), (3, 8))
    if mode == "lora":
        layer.layer.enable_lora(2)
        message = "L0: expected a kernel that is a variable; got layer='Dense'. Do not enable LoRA."
    else:
        layer.layer.quantize(mode)
        message = "L0: expected a floating kernel to gate; got dtypes=['int8']. Train before you quantize."
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(drawn(3, 8))


def inner(kind):
    return {
        "none": lambda: keras.layers.BatchNormalization(),
        "grouped": lambda: keras.layers.Conv1D(4, 2, groups=2),
        "LSTM": lambda: keras.layers.LSTM(3),
        "Dense": lambda: keras.layers.Dense(3),
        "transposed": lambda: keras.layers.Conv1DTranspose(3, 2),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "arguments", "error", "message"),
    [
        ("none", {}, ValueError, "expected a layer whose kernel is a variable; got layer='BatchNormalization'. Wrap"),
        ("Dense", {"weight": -1}, ValueError, "expected weight >= 0; got weight=-1"),
        ("Dense", {"weight": np.nan}, ValueError, "expected a finite weight; got weight=nan"),
        ("Dense", {"weight": "1"}, TypeError, "expected a number for weight; got weight='1'"),
        ("Dense", {"l2": -0.5}, ValueError, "expected l2 >= 0; got l2=-0.5"),
        ("Dense", {"drop_rate": 0}, ValueError, "expected 0 < drop_rate < 1; got drop_rate=0"),
        ("Dense", {"drop_rate": 1.0}, ValueError, "expected 0 < drop_rate < 1; got drop_rate=1.0"),
        ("Dense", {"temperature": 0}, ValueError, "expected temperature > 0; got temperature=0"),
        ("Dense", {"stretch": (0.0, 1.1)}, ValueError, "expected stretch of low < 0 and high > 1; got stretch=(0.0"),
        ("Dense", {"stretch": (-0.1, 1.0)}, ValueError, "expected stretch of low < 0 and high > 1; got stretch=(-0.1"),
        ("Dense", {"stretch": 1.1}, TypeError, "expected stretch to be (low, high); got stretch=1.1"),
        ("Dense", {"gates": "unit"}, ValueError, "expected gates to be one of 'weight', 'input', 'output'; got gates="),
        ("Dense", {"seed": 0.5}, TypeError, "expected an integer for seed; got seed=0.5"),
        (
            "LSTM",
            {"gates": "output"},
            ValueError,
            "expected a layer whose kernel has an axis of outputs; got layer='LS",
        ),
        ("grouped", {"gates": "input"}, ValueError, "expected a layer whose kernel has an axis of inputs; got layer="),
        (
            "transposed",
            {"gates": "input"},
            ValueError,
            "expected a layer whose kernel has an axis of inputs; got layer",
        ),
    ],
)
def test_wrong_arguments_are_refused(kind, arguments, error, message):
    with pytest.raises(error, match=re.escape(f"L0: {message}")):
        L0(inner(kind), **arguments).build((None, 6, 4))


def test_what_is_no_layer_is_refused():
    with pytest.raises(TypeError, match=re.escape("L0: expected a keras layer; got layer='Dense'.")):
        L0("Dense")
