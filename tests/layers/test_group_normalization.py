"""GroupNormalization: Keras's values and weights, torch's gradients, and the accuracy of its statistics."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.layers import GroupNormalization

EPSILON = 1e-3


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def by_definition(x, groups, axis, epsilon=EPSILON):
    """The equation in float64, without scale and offset."""
    moved = np.moveaxis(x.astype("float64"), axis, 1)
    rows = moved.reshape(len(x), groups, -1)
    rows = (rows - rows.mean(axis=-1, keepdims=True)) / np.sqrt(rows.var(axis=-1, keepdims=True) + epsilon)
    return np.moveaxis(rows.reshape(moved.shape), 1, axis)


def pair(groups, shape, axis=-1, **arguments):
    """Return our layer and Keras's, with the same random weights."""
    layers = [make(groups, axis=axis, **arguments) for make in (GroupNormalization, keras.layers.GroupNormalization)]
    for layer in layers:
        layer.build(shape)
    weights = [normal(*w.shape) + 1 for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def array(x):
    return ops.convert_to_numpy(x)


SHAPES = [
    ((3, 6), -1),
    ((3, 6), 1),
    ((3, 5, 6), -1),
    ((3, 6, 5), 1),
    ((3, 6, 5), -2),
    ((3, 5, 4, 6), -1),
    ((3, 5, 4, 6), 3),
    ((3, 5, 6, 4), 2),
    ((3, 5, 6, 4), -2),
    ((3, 6, 5, 4), -3),
    ((3, 6, 5, 4), 1),
    ((2, 3, 4, 5, 6), -1),
    ((2, 3, 6, 5, 4), 2),
    ((2, 6, 3, 4, 5), -4),
]


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_values_are_those_of_keras_in_training_and_inference(shape, axis, groups):
    x = normal(*shape)
    ours, theirs = pair(groups, shape, axis)
    expected = array(theirs(x))
    for training in (False, True):
        np.testing.assert_allclose(array(ours(x, training=training)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6, -1])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_values_are_those_of_the_definition(shape, axis, groups):
    x = normal(*shape)
    expected = by_definition(x, 6 if groups == -1 else groups, axis)
    for training in (False, True):
        y = GroupNormalization(groups, axis=axis)(x, training=training)
        np.testing.assert_allclose(array(y), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_center_and_scale_are_optional(center, scale):
    x = normal(3, 5, 6)
    ours, theirs = pair(2, x.shape, center=center, scale=scale)
    assert len(ours.weights) == center + scale
    for training in (False, True):
        np.testing.assert_allclose(array(ours(x, training=training)), array(theirs(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels_first", "shape"), [(True, (3, 6, 4, 5)), (False, (3, 4, 5, 6))])
def test_lengths_that_are_unknown_change_nothing(channels_first, shape):
    free = (6, None, None) if channels_first else (None, None, 6)
    inputs = keras.Input(free)
    layer = GroupNormalization(3, axis=1 if channels_first else -1)
    model = keras.Model(inputs, layer(inputs, training=True))
    x = normal(*shape)
    expected = by_definition(x, 3, 1 if channels_first else -1)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), [((0, 4, 6), -1), ((0, 6, 4, 3), 1), ((0, 4, 6, 3), 2)])
def test_an_empty_batch_has_an_empty_output(shape, axis):
    for training in (False, True):
        y = GroupNormalization(3, axis=axis)(np.zeros(shape, "float32"), training=training)
        assert tuple(y.shape) == shape


@pytest.mark.tensorflow
@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_forward_and_gradients_are_those_of_torch(groups, channels_first, jit_compile):
    import tensorflow as tf

    torch = pytest.importorskip("torch", reason="torch is the oracle")
    x, upstream = normal(3, 6, 4, 5), np.random.default_rng(1).normal(size=(3, 6, 4, 5)).astype("float32")
    theirs = torch.nn.GroupNorm(groups, 6, eps=EPSILON)
    gamma, beta = normal(2, 6)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(gamma))
        theirs.bias.copy_(torch.tensor(beta))
    inputs = torch.tensor(x, requires_grad=True)
    y = theirs(inputs)
    y.backward(torch.tensor(upstream))
    expected = [t.detach().numpy() for t in (y, inputs.grad, theirs.weight.grad, theirs.bias.grad)]

    if not channels_first:
        x, upstream = np.moveaxis(x, 1, -1), np.moveaxis(upstream, 1, -1)
        expected = [np.moveaxis(value, 1, -1) if value.ndim == 4 else value for value in expected]
    layer = GroupNormalization(groups, axis=1 if channels_first else -1)
    layer.build(x.shape)
    layer.set_weights([gamma, beta])

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, *tape.gradient(y, [x, layer.gamma.value, layer.beta.value], output_gradients=upstream)

    compiled = run if jit_compile is None else tf.function(run, jit_compile=jit_compile)
    for got, value in zip(compiled(tf.constant(x)), expected, strict=True):
        np.testing.assert_allclose(got.numpy(), value, rtol=0, atol=1e-5 * max(1, np.abs(value).max()))


@pytest.mark.parametrize("axis", [-1, 1])
def test_float16_of_a_large_scale_neither_overflows_nor_loses_the_variance(axis):
    """The square of 1e3 is beyond float16; the rounding of the output to 11 bits is all that may be lost."""
    x = (1000 * normal(3, 6, 5, 6)).astype("float16")
    layer = GroupNormalization(2, axis=axis, dtype="float16")
    expected = by_definition(x, 2, axis)
    for training in (False, True):
        y = layer(x, training=training)
        assert keras.backend.standardize_dtype(y.dtype) == "float16"
        np.testing.assert_allclose(array(y), expected, rtol=2.0**-10, atol=2.0**-10)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_large_mean_costs_no_more_accuracy_than_in_keras(axis):
    x = (1000 + normal(4, 16, 16, 16)).astype("float32")
    expected = by_definition(x, 4, axis)
    ours, theirs = (make(4, axis=axis) for make in (GroupNormalization, keras.layers.GroupNormalization))
    error = {training: np.abs(array(ours(x, training=training)) - expected).max() for training in (False, True)}
    # Both round the mean; one unit in the last place of the input is what either may differ by from run to run.
    limit = np.abs(array(theirs(x)) - expected).max() + np.spacing(np.float32(1000))
    for training in (False, True):
        assert error[training] <= limit
        # Keras's own error is no bound on torch, where its variance cancels.
        assert error[training] < 1e-3


@pytest.mark.parametrize("training", [False, True])
def test_a_constant_group_becomes_the_offset(training):
    layer = GroupNormalization(2, beta_initializer="ones")
    y = array(layer(np.full((2, 3, 4), 7.0, "float32"), training=training))
    np.testing.assert_allclose(y, 1.0, atol=1e-5)


def test_weights_files_are_interchangeable_with_keras(tmp_path):
    x = normal(3, 5, 6)

    def model(make):
        return keras.Sequential([keras.Input((5, 6)), make(3, gamma_initializer="normal", name="norm")])

    ours, theirs = model(GroupNormalization), model(keras.layers.GroupNormalization)
    for source, target in ((ours, theirs), (theirs, ours)):
        source.layers[0].set_weights([w + 1 for w in source.layers[0].get_weights()])
        source.save_weights(tmp_path / "norm.weights.h5")
        target.load_weights(tmp_path / "norm.weights.h5")
        np.testing.assert_allclose(array(target(x)), array(source(x)), rtol=1e-5, atol=1e-5)


def test_instance_normalization_keeps_its_argument_for_other_channels():
    layer = GroupNormalization(-1)
    layer.build((None, 4))
    assert layer.get_config()["groups"] == -1
    again = GroupNormalization.from_config(layer.get_config())
    # A group of one number, which torch.nn.functional.group_norm refuses.
    for training in (False, True):
        np.testing.assert_array_equal(array(again(np.ones((1, 3), "float32"), training=training)), np.zeros((1, 3)))


def test_regularizers_and_constraints_are_those_of_the_weights():
    layer = GroupNormalization(2, gamma_regularizer=keras.regularizers.L1(0.5), beta_constraint="non_neg")
    layer.build((None, 4))
    layer(np.ones((1, 4), "float32"), training=True)
    np.testing.assert_allclose([float(array(loss)) for loss in layer.losses], [0.5 * 4])
    assert isinstance(layer.beta.constraint, keras.constraints.NonNeg)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"groups": 0}, ValueError, "expected groups >= 1 or groups == -1; got groups=0."),
        ({"groups": -2}, ValueError, "expected groups >= 1 or groups == -1; got groups=-2."),
        ({"groups": 2.0}, TypeError, "expected an integer for groups; got groups=2.0."),
        ({"groups": True}, TypeError, "expected an integer for groups; got groups=True."),
        ({"axis": 0}, ValueError, "expected axis other than 0, the batch axis; got axis=0."),
        ({"axis": [1]}, TypeError, "expected an integer for axis; got axis=[1]."),
        ({"epsilon": 0}, ValueError, "expected epsilon > 0; got epsilon=0."),
        ({"epsilon": "a"}, TypeError, "expected a number for epsilon; got epsilon='a'."),
        ({"epsilon": float("nan")}, ValueError, "expected a finite epsilon; got epsilon=nan."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"GroupNormalization: {message}")):
        GroupNormalization(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        (
            {"groups": 4},
            (None, 6),
            "expected groups to divide the channels; got groups=4, channels=6. Divisors of 6: 1,",
        ),
        ({"groups": 12}, (None, 6), "expected groups to divide the channels; got groups=12, channels=6."),
        (
            {"groups": 2},
            (None, 5, None),
            "expected a known number of channels; got axis=-1, input_shape=(None, 5, None).",
        ),
        ({"groups": 2}, (None,), "expected an input of rank 2 or more with the channels at axis; got axis=-1,"),
        (
            {"groups": 2, "axis": 2},
            (None, 4),
            "expected an input of rank 2 or more with the channels at axis; got axis=2,",
        ),
        ({"groups": 2, "axis": -2}, (None, 4), "expected an input of rank 2 or more with the channels at axis;"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_when_built(arguments, shape, message):
    with pytest.raises(ValueError, match=re.escape(f"GroupNormalization: {message}")):
        GroupNormalization(**arguments).build(shape)
