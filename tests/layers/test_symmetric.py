"""Layers that store half of a symmetric kernel, against plain layers with the whole of it."""

import keras
import numpy as np
import pytest
import subjects
from cases import Case
from keras import ops

from keras_kicks.constraints import Symmetric
from keras_kicks.layers import SymmetricConv1D, SymmetricConv2D, SymmetricConv3D, SymmetricDense

# Layer, its plain peer, arguments, input shape, flipped axes of the kernel.
SETTINGS = {
    "dense": (SymmetricDense, keras.layers.Dense, (4,), {}, (3, 6), (0, 1)),
    "dense-odd": (SymmetricDense, keras.layers.Dense, (3,), {}, (3, 5), (0, 1)),
    "dense-inputs": (SymmetricDense, keras.layers.Dense, (4,), {"axis": 0}, (3, 5), (0,)),
    "dense-outputs": (SymmetricDense, keras.layers.Dense, (5,), {"axis": -1}, (3, 4), (1,)),
    "conv1d": (SymmetricConv1D, keras.layers.Conv1D, (2, 5), {"padding": "causal"}, (2, 8, 3), (0,)),
    "conv2d": (SymmetricConv2D, keras.layers.Conv2D, (2, 3), {"padding": "same", "strides": 2}, (2, 6, 7, 3), (1,)),
    "conv2d-top": (SymmetricConv2D, keras.layers.Conv2D, (4, (4, 2)), {"axis": 0, "groups": 2}, (2, 6, 7, 2), (0,)),
    "conv2d-turn": (SymmetricConv2D, keras.layers.Conv2D, (2, (3, 2)), {"axis": (0, 1)}, (2, 6, 7, 3), (0, 1)),
    "conv3d": (SymmetricConv3D, keras.layers.Conv3D, (2, (2, 3, 2)), {"axis": [0, 2]}, (2, 4, 5, 4, 3), (0, 2)),
}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def pair(name, seed=1):
    """Return the layer, a plain one with its whole weights, and inputs."""
    symmetric, plain, sizes, arguments, shape, axes = SETTINGS[name]
    keras.utils.set_random_seed(seed)
    layer = symmetric(*sizes, bias_initializer="normal", **arguments)
    layer.build((None, *shape[1:]))
    other = plain(*sizes, **{k: v for k, v in arguments.items() if k != "axis"})
    other.build((None, *shape[1:]))
    other.set_weights([ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(layer.bias)])
    return layer, other, numbers(*shape), axes


def gradients(layer, x):
    """Return the gradients of a weighted sum of outputs by the weights, and by the inputs."""
    case = Case(lambda dtype: layer, lambda: (x,), "layer", None)
    _, found, _ = subjects.value_and_gradients(case, layer, [x], True)
    return [subjects.array(g) for g in found]


@pytest.mark.parametrize("name", SETTINGS)
def test_it_computes_what_the_whole_kernel_computes(name):
    layer, other, x, axes = pair(name)
    kernel = ops.convert_to_numpy(layer.kernel)
    np.testing.assert_array_equal(kernel, np.flip(kernel, axes))
    assert np.unique(kernel).size == -(-kernel.size // 2) or kernel.shape[axes[0]] % 2
    np.testing.assert_allclose(subjects.array(layer(x)), subjects.array(other(x)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_half_of_the_weights_are_stored(name):
    layer, other, _, axes = pair(name)
    flipped = np.prod([other.kernel.shape[axis] for axis in axes])
    own = layer.get_weights()[0].size
    assert own == -(-flipped // 2) * (np.prod(other.kernel.shape) // flipped)
    assert [w.name for w in layer.weights] == ["kernel", "bias"]


@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_are_those_of_the_whole_kernel_folded(name):
    """The gradient along a symmetric direction: the sum over all places of an element."""
    layer, other, x, _ = pair(name)
    got, expected = gradients(layer, x), gradients(other, x)
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-5, atol=1e-5)
    for weight, halves, wholes in zip((0, 1), got[:2], expected[:2], strict=True):
        values = layer.get_weights()
        direction = numbers(*halves.shape, seed=5)
        before = [ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(layer.bias)][weight]
        values[weight] = values[weight] + direction
        layer.set_weights(values)
        after = [ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(layer.bias)][weight]
        assert (halves * direction).sum() == pytest.approx((wholes * (after - before)).sum(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("units", [4, 5])
@pytest.mark.parametrize("inputs", [6, 7])
def test_a_symmetric_network_maps_mirrored_inputs_to_mirrored_outputs(inputs, units):
    layers = [SymmetricDense(5, activation="tanh", bias_initializer="normal"), SymmetricDense(units)]
    model = keras.Sequential([keras.Input((inputs,)), *layers])
    x = numbers(3, inputs)
    mirrored = subjects.array(model(np.ascontiguousarray(x[:, ::-1])))
    np.testing.assert_allclose(mirrored, subjects.array(model(x))[:, ::-1], rtol=1e-5, atol=1e-6)


def test_mirrored_images_give_mirrored_maps():
    layer, image = SymmetricConv2D(4, (2, 3), padding="same"), numbers(2, 5, 6, 3)
    mirrored = subjects.array(layer(np.ascontiguousarray(image[:, :, ::-1])))
    np.testing.assert_allclose(mirrored, subjects.array(layer(image))[:, :, ::-1], rtol=1e-5, atol=1e-6)


def test_steps_are_those_of_the_constraint_at_twice_the_rate():
    """Without an element that is its own mirror image."""
    x, y = numbers(32, 6), numbers(32, 3, seed=1)
    layer, plain = (
        SymmetricDense(3, axis=0, use_bias=False),
        keras.layers.Dense(3, use_bias=False, kernel_constraint=Symmetric(0)),
    )
    models = [keras.Sequential([keras.Input((6,)), each]) for each in (layer, plain)]
    plain.set_weights([ops.convert_to_numpy(layer.kernel)])
    for model, rate in zip(models, (0.05, 0.1), strict=True):
        model.compile(keras.optimizers.SGD(rate), "mse")
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.kernel), plain.get_weights()[0], rtol=1e-4, atol=1e-6)


def test_initializers_draw_for_the_whole_kernel():
    layer = SymmetricDense(300, kernel_initializer="glorot_normal")
    layer.build((None, 200))
    assert np.std(ops.convert_to_numpy(layer.kernel)) == pytest.approx(np.sqrt(2 / 500), rel=0.02)


def test_regularizers_and_constraints_see_whole_weights():
    regularizer = keras.regularizers.L1(0.5)
    layer = SymmetricDense(
        3, kernel_regularizer=regularizer, bias_regularizer=regularizer, kernel_constraint=keras.constraints.UnitNorm()
    )
    model = keras.Sequential([keras.Input((5,)), layer])
    layer.set_weights([numbers(8, seed=2), numbers(2, seed=3)])
    kernel, bias = ops.convert_to_numpy(layer.kernel), ops.convert_to_numpy(layer.bias)
    assert kernel.shape == (5, 3)
    expected = 0.5 * (np.abs(kernel).sum() + np.abs(bias).sum())
    assert float(subjects.array(sum(model.losses))) == pytest.approx(expected, rel=1e-6)
    model.compile("sgd", "mse")
    model.fit(numbers(8, 5), numbers(8, 3), verbose=0)
    norms = np.linalg.norm(ops.convert_to_numpy(layer.kernel), axis=0)
    np.testing.assert_allclose(norms, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["dense-odd", "conv2d-turn"])
def test_a_file_holds_the_halves_and_training_goes_on(name, tmp_path):
    layer, _, x, _ = pair(name)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    y = np.zeros((len(x), *model.output_shape[1:]), "float32")
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.shape for w in loaded.get_weights()] == [w.shape for w in layer.get_weights()]
    for each in (model, loaded):
        each.fit(x, y, epochs=2, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_clone_has_halves_too():
    layer, _, x, _ = pair("conv2d-turn")
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(subjects.array(clone(x)), subjects.array(model(x)))


def test_what_would_break_the_symmetry_is_refused():
    layer = SymmetricDense(4)
    model = keras.Sequential([keras.Input((3,)), layer])
    with pytest.raises(NotImplementedError, match=r"SymmetricDense: .* not be symmetric"):
        layer.enable_lora(2)
    with pytest.warns(UserWarning, match="quantize") as warned:
        model.quantize("int8")
    assert any("SymmetricDense: half of a kernel" in str(warning.message) for warning in warned)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: SymmetricDense(3, axis=2), ValueError),
        (lambda: SymmetricDense(3, axis=[0, -2]), ValueError),
        (lambda: SymmetricDense(3, axis=None), TypeError),
        (lambda: SymmetricConv1D(3, 2, axis=1), ValueError),
        (lambda: SymmetricConv2D(3, 2, axis=[0, 2]), ValueError),
        (lambda: SymmetricConv3D(3, 2, axis=[]), ValueError),
    ],
)
def test_what_is_no_axis_of_it(make, error):
    with pytest.raises(error, match=r"Symmetric\w+: expected .* got axis="):
        make()
