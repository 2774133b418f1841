"""DropConnect: which weights it drops, what that does to the output, and what it leaves alone."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import DropConnect

RATE = 0.3
# Kept weights are scaled by one over the share that is kept, which is a multiple of 2^-15.
KEPT = round((1 - RATE) * 2**15) / 2**15


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def mask_of(layer, inputs, training=True):
    """Return the factors of the kernel of a wrapped Dense layer with a kernel of ones, by feeding the unit vectors."""
    return ops.convert_to_numpy(layer(np.eye(inputs, dtype="float32"), training=training))


def test_kept_weights_are_scaled_and_the_rate_is_met():
    n = 200
    layer = DropConnect(keras.layers.Dense(n, kernel_initializer="ones"), RATE, seed=1)
    mask = mask_of(layer, n)
    np.testing.assert_allclose(np.unique(mask), [0, 1 / KEPT], rtol=1e-6)
    share = (mask == 0).mean()
    assert abs(share - (1 - KEPT)) < 5 * np.sqrt(RATE * (1 - RATE) / n**2)
    assert np.any(mask_of(layer, n) != mask)
    np.testing.assert_array_equal(mask_of(layer, n, training=False), np.ones((n, n)))


def test_biases_are_never_dropped():
    layer = DropConnect(keras.layers.Dense(50, bias_initializer="ones"), 0.9, seed=1)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(np.zeros((3, 4)), training=True)), np.ones((3, 50)))


LINEAR = {
    "Dense": (lambda: keras.layers.Dense(4), (5, 6)),
    "Conv1D": (lambda: keras.layers.Conv1D(4, 3), (5, 8, 3)),
    "Conv2D": (lambda: keras.layers.Conv2D(4, 3, padding="same"), (3, 5, 5, 2)),
    "Conv3D": (lambda: keras.layers.Conv3D(3, 2), (2, 3, 3, 3, 2)),
    "EinsumDense": (lambda: keras.layers.EinsumDense("abc,cd->abd", (5, 4), bias_axes="d"), (3, 5, 6)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_training_has_the_mean_of_inference(name):
    """The mean over n masks is within 5.5 standard errors; the variance is rate / (1 - rate) x^2 W^2, summed."""
    make, shape = LINEAR[name]
    x, inner = drawn(*shape), make()
    layer = DropConnect(inner, RATE, seed=1)
    expected = ops.convert_to_numpy(layer(x)).astype("float64")
    squared = make()
    squared.build(shape)
    squared.set_weights([ops.convert_to_numpy(inner.kernel) ** 2, np.zeros(inner.bias.shape)])
    variance = (1 - KEPT) / KEPT * ops.convert_to_numpy(squared(x**2))
    n = 150
    mean = np.mean([ops.convert_to_numpy(layer(x, training=True)) for _ in range(n)], axis=0)
    assert np.all(np.abs(mean - expected) < 5.5 * np.sqrt(variance / n) + 1e-5)
    spread = np.mean([(ops.convert_to_numpy(layer(x, training=True)) - expected) ** 2 for _ in range(n)])
    assert spread == pytest.approx(variance.mean(), rel=0.2)


@pytest.mark.parametrize("name", LINEAR)
def test_one_mask_serves_all_examples_of_a_batch(name):
    make, shape = LINEAR[name]
    x = np.repeat(drawn(1, *shape[1:]), 4, axis=0)
    y = ops.convert_to_numpy(DropConnect(make(), 0.5, seed=1)(x, training=True))
    np.testing.assert_allclose(y, np.repeat(y[:1], 4, axis=0), rtol=1e-5, atol=1e-6)


def test_recurrent_masks_are_those_of_the_kernels():
    """A SimpleRNN without activation: from x_1 and then zeros, the outputs are x W and x W U, masks included."""
    inner = keras.layers.SimpleRNN(
        5, activation=None, return_sequences=True, kernel_initializer="ones", recurrent_initializer="identity"
    )
    layer = DropConnect(inner, 0.5, seed=1)
    x = np.zeros((3, 2, 3), "float32")
    x[:, 0] = np.eye(3)
    y = ops.convert_to_numpy(layer(x, training=True))
    assert set(np.unique(y[:, 0])) == {0.0, 2.0}
    kept = set(np.unique(y[:, 1] / np.where(y[:, 0] == 0, 1, y[:, 0])))
    assert kept <= {0.0, 2.0}
    for unit in range(5):
        factors = {float(b / a) for a, b in zip(y[:, 0, unit], y[:, 1, unit], strict=True) if a}
        assert len(factors) <= 1


def test_a_stateful_layer_keeps_its_state():
    inner = keras.layers.SimpleRNN(4, stateful=True)
    layer = DropConnect(inner, 0.5, seed=1)
    x = drawn(2, 3, 5)
    y = layer(x, training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(inner.states[0]), ops.convert_to_numpy(y))


def test_a_stateful_layer_keeps_its_state_in_both_directions():
    inner = keras.layers.Bidirectional(keras.layers.SimpleRNN(4, stateful=True))
    x = drawn(2, 3, 5)
    y = ops.convert_to_numpy(DropConnect(inner, 0.5, seed=1)(x, training=True))
    for part, values in ((inner.forward_layer, y[:, :4]), (inner.backward_layer, y[:, 4:])):
        np.testing.assert_array_equal(ops.convert_to_numpy(part.states[0]), values)


def test_a_shared_layer_is_not_touched():
    shared = keras.layers.Dense(4)
    layer = DropConnect(shared, 0.5, seed=1)
    x = drawn(3, 5)
    layer.build(x.shape)
    before = [ops.convert_to_numpy(w) for w in shared.weights]
    plain = ops.convert_to_numpy(shared(x))
    dropped = ops.convert_to_numpy(layer(x, training=True))
    assert np.abs(dropped - plain).max() > 0
    np.testing.assert_array_equal(ops.convert_to_numpy(shared(x)), plain)
    for weight, old in zip(shared.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old)


def test_two_branches_train_the_one_layer():
    inputs, shared = keras.Input((5,)), keras.layers.Dense(4)
    outputs = [shared(inputs), DropConnect(shared, 0.5, seed=1)(inputs)]
    model = keras.Model(inputs, keras.layers.Add()(outputs))
    assert len(model.trainable_weights) == 2
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = drawn(64, 5)
    losses = model.fit(x, x[:, :4], epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def activity_loss(y):
    """What this version of Keras makes of l2 and an output: newer ones divide by the batch."""
    layer = keras.layers.Activation("linear", activity_regularizer="l2")
    layer(y)
    return float(ops.convert_to_numpy(layer.losses[0]))


@pytest.mark.parametrize("mask", ["batch", "sample"])
def test_regularizers_and_constraints_see_the_whole_kernel(mask):
    """The kernel's as if nothing were dropped, the activity's for what came out."""
    inner = keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L1(1.0), activity_regularizer="l2")
    layer = DropConnect(inner, 0.5, mask=mask, seed=1)
    y = layer(drawn(8, 5), training=True)
    penalty = np.abs(ops.convert_to_numpy(inner.kernel)).sum()
    assert sum(float(ops.convert_to_numpy(loss)) for loss in layer.losses) == pytest.approx(
        penalty + activity_loss(y), rel=1e-4
    )


def test_rate_zero_is_the_layer_itself():
    inner = keras.layers.Dense(4)
    x = drawn(3, 5)
    y = DropConnect(inner, 0.0)(x, training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(y), ops.convert_to_numpy(inner(x)))


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mask", ["batch", "sample"])
def test_fit_trains_and_draws_anew_in_every_step(jit_compile, mask):
    layer = DropConnect(keras.layers.Dense(16, activation="relu"), 0.3, mask=mask, seed=1)
    model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=jit_compile)
    x = drawn(70, 5)
    state = layer.seed_generator.state.numpy()
    losses = model.fit(x, np.abs(x[:, :1]), batch_size=32, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert np.any(layer.seed_generator.state.numpy() != state)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.tensorflow
@pytest.mark.parametrize(("mask", "same"), [("batch", True), ("sample", False)])
def test_replicas_share_batch_masks_and_not_sample_masks(strategy, mask, same):
    import tensorflow as tf

    with strategy.scope():
        layer = DropConnect(keras.layers.Dense(40), 0.5, mask=mask, seed=1)
        layer.build((None, 40))

    @tf.function
    def step():
        return strategy.run(lambda: layer(tf.ones((8, 40)), training=True))

    first, second = (y.numpy() for y in strategy.experimental_local_results(step()))
    assert np.array_equal(first, second) == same


def unwrapped(kind):
    return {"none": keras.layers.Activation("relu"), "norm": keras.layers.BatchNormalization()}[kind]


@pytest.mark.parametrize("kind", ["none", "norm"])
def test_a_layer_without_a_kernel_is_refused_when_built(kind):
    message = "DropConnect: expected a layer whose kernel is a variable; got layer="
    with pytest.raises(ValueError, match=re.escape(message)):
        DropConnect(unwrapped(kind), 0.5)(drawn(3, 4))


@pytest.mark.parametrize(
    ("layer", "arguments", "error", "message"),
    [
        ("Dense", {}, TypeError, "expected a keras layer; got layer='Dense'."),
        (None, {"rate": 1.0}, ValueError, "expected 0 <= rate < 1; got rate=1.0."),
        (None, {"rate": -0.1}, ValueError, "expected 0 <= rate < 1; got rate=-0.1."),
        (None, {"rate": "a"}, TypeError, "expected a number for rate; got rate='a'."),
        (None, {"mask": "row"}, ValueError, "expected mask to be one of 'batch', 'sample'; got mask='row'."),
        (None, {"inference": "mode"}, ValueError, "expected inference to be one of 'mean', 'gaussian';"),
        (None, {"seed": "a"}, TypeError, "expected an integer for seed; got seed='a'."),
        (None, {"samples": 0}, ValueError, "expected samples >= 1; got samples=0."),
        ("lstm", {"mask": "sample"}, ValueError, "expected a Dense layer for mask=\"sample\"; got layer='LSTM'."),
        ("lstm", {"inference": "gaussian"}, ValueError, "expected Dense, EinsumDense or Conv1D/2D/3D for inference="),
    ],
)
def test_wrong_arguments_are_refused(layer, arguments, error, message):
    layer = {None: keras.layers.Dense(3), "lstm": keras.layers.LSTM(3)}.get(layer, layer)
    with pytest.raises(error, match=re.escape(f"DropConnect: {message}")):
        DropConnect(layer, **{"rate": 0.5, **arguments})
