"""Layers with another layer's kernel, transposed: values, the adjoint identity, principal components, bad input."""

import keras
import numpy as np
import pytest
import subjects
from keras import ops

from keras_kicks.layers import SymmetricDense, TransposedConv1D, TransposedConv2D, TransposedConv3D, TransposedDense

LAYERS = {
    1: (keras.layers.Conv1D, TransposedConv1D),
    2: (keras.layers.Conv2D, TransposedConv2D),
    3: (keras.layers.Conv3D, TransposedConv3D),
}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("kind", [keras.layers.Dense, SymmetricDense])
def test_dense_is_the_product_with_the_transpose(kind):
    encoder = kind(3)
    encoder.build((None, 5))
    layer, x = TransposedDense(encoder, "tanh", bias_initializer="normal"), numbers(4, 2, 3)
    got = subjects.array(layer(x))
    kernel, bias = subjects.array(encoder.kernel), subjects.array(layer.bias)
    np.testing.assert_allclose(got, np.tanh(x @ kernel.T + bias), rtol=1e-5, atol=1e-6)


def test_the_gradient_of_both_places_adds_up():
    """For |x K K^T - x|^2, with R the residual: 2 (x^T R K + R^T x K)."""
    encoder, x = keras.layers.Dense(2, use_bias=False), numbers(7, 4)
    model = keras.Sequential([keras.Input((4,)), encoder, TransposedDense(encoder, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    kernel = encoder.get_weights()[0].astype("float64")
    residual = x @ kernel @ kernel.T - x
    slope = 2 * (x.T @ residual @ kernel + residual.T @ x @ kernel) / x.size
    model.fit(x, x, batch_size=len(x), verbose=0)
    np.testing.assert_allclose(encoder.get_weights()[0], kernel - 0.1 * slope, rtol=1e-4, atol=1e-6)


# Window, strides, padding, dilation, steps of the input, output padding.
CONVOLUTIONS = [
    (3, 1, "valid", 1, 7, None),
    (3, 2, "valid", 1, 7, None),
    (2, 3, "valid", 1, 9, None),
    (3, 1, "valid", 2, 8, None),
    (3, 1, "same", 1, 6, None),
    (3, 1, "same", 2, 8, None),
    (3, 2, "same", 1, 8, None),
    (3, 2, "same", 1, 7, 0),
    (4, 2, "same", 1, 6, None),
]


@pytest.mark.parametrize("setting", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_is_the_adjoint_of_the_convolution(rank, setting):
    window, strides, padding, dilation, steps, output_padding = setting
    convolution, transposed = LAYERS[rank]
    encoder = convolution(4, window, strides, padding, dilation_rate=dilation, use_bias=False)
    x = numbers(2, *[steps] * rank, 3)
    y = subjects.array(encoder(x))
    other = numbers(*y.shape, seed=1)
    back = subjects.array(transposed(encoder, use_bias=False, output_padding=output_padding)(other))
    assert back.shape == x.shape
    assert np.vdot(y, other) == pytest.approx(np.vdot(x, back), rel=1e-4, abs=1e-4)


@pytest.mark.tensorflow
def test_the_bias_is_added_to_channels_that_come_first():
    encoder = keras.layers.Conv2D(4, 3, data_format="channels_first")
    encoder.build((None, 3, 6, 5))
    layer = TransposedConv2D(encoder, bias_initializer="ones")
    symbolic = layer(keras.Input((4, 4, 3)))
    assert tuple(symbolic.shape) == (None, 3, 6, 5)
    last = keras.layers.Conv2D(4, 3)
    last.build((None, 6, 5, 3))
    last.set_weights(encoder.get_weights())
    x = numbers(2, 4, 4, 3)
    expected = subjects.array(TransposedConv2D(last, use_bias=False)(x.transpose(0, 2, 3, 1))) + 1
    np.testing.assert_allclose(subjects.array(layer(x)), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_a_linear_autoencoder_finds_the_principal_components():
    """The error is what the components that are left out explain, and the kernel spans the others."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 6)) * [3.0, 2.0, 1.5, 0.5, 0.4, 0.3]) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = (x - x.mean(axis=0)).astype("float32")
    encoder = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), encoder, TransposedDense(encoder)])
    several = 1 if subjects.BACKEND == "torch" else 50
    model.compile(keras.optimizers.Adam(0.02), "mse", steps_per_execution=several)
    model.fit(np.tile(x, (300, 1)), np.tile(x, (300, 1)), batch_size=200, shuffle=False, verbose=0)
    _, singular, axes = np.linalg.svd(x.astype("float64"), full_matrices=False)
    assert model.evaluate(x, x, verbose=0) == pytest.approx((singular[3:] ** 2).sum() / x.size, rel=1e-3)
    kernel = encoder.get_weights()[0].astype("float64")
    np.testing.assert_allclose(kernel @ kernel.T, axes[:3].T @ axes[:3], atol=0.02)


def test_weights_are_counted_once():
    encoder = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((5,)), encoder, TransposedDense(encoder)])
    model.compile("adam", "mse")
    assert [tuple(w.shape) for w in model.trainable_variables] == [(5, 2), (2,), (5,)]
    assert model.count_params() == 17
    model.optimizer.build(model.trainable_variables)
    assert len(model.optimizer.variables) == 2 + 2 * 3  # Iterations, rate, two moments of each.


def conv(**arguments):
    layer = keras.layers.Conv2D(**{"filters": 4, "kernel_size": 3, "name": "encoder", **arguments})
    layer.build((None, 6, 6, 2))
    return layer


def dense():
    layer = keras.layers.Dense(3, name="encoder")
    layer.build((None, 5))
    return layer


class Quantized(keras.layers.Dense):
    quantization_mode = "int8"


BAD = {
    "no layer": (lambda: TransposedDense("encoder"), TypeError, "a layer; got tied_to='encoder'"),
    "no kernel": (lambda: TransposedDense(keras.layers.ReLU()), ValueError, "a layer with a kernel of 2 axes"),
    "rank": (lambda: TransposedDense(conv()), ValueError, "a layer with a kernel of 2 axes; got tied_to='encoder'"),
    "no convolution": (lambda: TransposedConv2D(dense()), ValueError, "a layer with a kernel of 4 axes"),
    "groups": (lambda: TransposedConv2D(conv(groups=2)), ValueError, "in one group; got tied_to='encoder', groups=2"),
    "unbuilt": (lambda: TransposedDense(keras.layers.Dense(3))(numbers(2, 3)), ValueError, "a layer that is built"),
    "features": (lambda: TransposedDense(dense()).compute_output_shape((2, 4)), ValueError, "inputs of 3 features"),
    "channels": (
        lambda: TransposedConv2D(conv()).compute_output_shape((2, 4, 4, 5)),
        ValueError,
        "inputs of 4 axes and 4 channels",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_tied_to(name):
    make, error, text = BAD[name]
    with pytest.raises(error, match=r"Transposed\w+: expected .*" + text):
        make()


def test_causal_and_quantized_layers_are_refused():
    causal = keras.layers.Conv1D(4, 3, padding="causal")
    causal.build((None, 6, 2))
    with pytest.raises(ValueError, match=r"padding 'valid' or 'same'; got .*padding='causal'"):
        TransposedConv1D(causal)
    encoder = dense()
    layer = TransposedDense(encoder)
    layer(numbers(2, 3))
    encoder.quantize("int8")
    with pytest.raises(ValueError, match=r"not quantized; got tied_to='encoder', quantization_mode='int8'"):
        layer(numbers(2, 3))
    assert ops.shape(layer.bias) == (5,)
