"""Ranges of activations from data, against NumPy."""

import keras
import numpy as np
import pytest

from keras_kicks.compression import calibrate, quantize_model
from keras_kicks.compression.quantized_layer import QuantizedInput

pytestmark = pytest.mark.tensorflow
L = keras.layers


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def network():
    return keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu", name="hidden"), L.Dense(3, name="end")])


def two_inputs(structure):
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    inputs = [a, b] if structure is list else {"a": a, "b": b}
    return keras.Model(inputs, L.Add()([L.Dense(3)(a), L.Dense(3)(b)]))


def ranges(model):
    """Return (low, high) of what each layer rounds but weights, by its name."""
    layers = [layer for layer in model.layers if hasattr(layer, "quantizers")]
    found = {layer.name: layer.quantizers()[1] for layer in layers}
    return {name: (float(qs[0].low.numpy()), float(qs[0].high.numpy())) for name, qs in found.items() if qs}


def variables(model):
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


def mean_range(batches):
    return np.mean([(min(b.min(), 0), max(b.max(), 0)) for b in batches], axis=0)


def test_ranges_are_the_mean_of_those_of_the_batches_and_of_inputs_the_widest():
    """Of 70 samples the last batch has 6; weights are not rounded meanwhile."""
    model, x = network(), drawn(70, 6)
    model.layers[1].set_weights([100 * w for w in model.layers[1].get_weights()])
    quantized = quantize_model(model)
    assert ranges(quantized)["quant_hidden"] == (-6, 6)
    found = ranges(calibrate(quantized, x))
    hidden = np.maximum(x @ model.layers[0].get_weights()[0], 0)
    end = hidden @ model.layers[1].get_weights()[0]
    borders = [32, 64]
    np.testing.assert_allclose(found["quant_sequential_input"], (x.min(), x.max()), rtol=1e-6)
    np.testing.assert_allclose(found["quant_hidden"], mean_range(np.split(hidden, borders)), rtol=1e-5)
    np.testing.assert_allclose(found["quant_end"], mean_range(np.split(end, borders)), rtol=1e-5)
    y = model.predict(x, verbose=0)
    assert np.abs(quantized.predict(x, verbose=0) - y).mean() < 0.02 * np.abs(y).max()


def test_weights_keep_their_range_and_nothing_else_changes():
    model, x = network(), drawn(40, 6)
    quantized = quantize_model(model)
    before = variables(quantized)
    calibrate(quantized, x)
    changed = {v.path.split("/")[-1] for v, b in zip(quantized.variables, before, strict=True) if np.any(v != b)}
    assert changed == {"input_max", "input_min", "post_activation_max", "post_activation_min"}


def dataset(x, **kwargs):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(x).batch(32, **kwargs)


class Batches(keras.utils.PyDataset):
    """It has no end as an iterator."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return self.x[32 * i : 32 * i + 32], np.zeros(len(self.x[32 * i : 32 * i + 32]))


X = drawn(50, 6)
WAYS = {
    "(x, y)": lambda: (X, np.zeros(50)),
    "tensor": lambda: keras.ops.convert_to_tensor(X),
    "list of batches": lambda: [X[:32], X[32:]],
    "list of (x, y)": lambda: [(X[:32], np.zeros(32)), (X[32:], np.zeros(18))],
    "generator": lambda: (X[i : i + 32] for i in (0, 32)),
    "dataset": lambda: dataset(X),
    "dataset of (x, y)": lambda: dataset((X, np.zeros(50))),
    "PyDataset": lambda: Batches(X),
}


@pytest.mark.parametrize("way", WAYS)
def test_data_may_come_in_many_ways(way):
    model = network()
    expected = ranges(quantize_model(model, calibration_data=X))
    assert ranges(calibrate(quantize_model(model), WAYS[way]())) == expected
    assert ranges(quantize_model(model)) != expected


@pytest.mark.parametrize("structure", [list, dict])
def test_several_inputs_come_in_the_structure_of_the_model(structure):
    a, b = drawn(50, 6), 3 * drawn(50, 4, seed=1)
    x = [a, b] if structure is list else {"a": a, "b": b}
    model = two_inputs(structure)
    found = ranges(calibrate(quantize_model(model), x))
    np.testing.assert_allclose(found["quant_a"], (a.min(), a.max()), rtol=1e-6)
    np.testing.assert_allclose(found["quant_b"], (b.min(), b.max()), rtol=1e-6)
    batches = dataset(dict(x) if structure is dict else tuple(x)).map(lambda *x: (x if structure is list else x[0], 0))
    assert ranges(calibrate(quantize_model(model), batches)) == found


def test_a_model_that_was_trained_is_calibrated_anew():
    x = drawn(64, 6)
    quantized = quantize_model(network(), x)
    quantized.compile("sgd", "mse")
    quantized.fit(x, drawn(64, 3), verbose=0)
    before = quantized.predict(x, verbose=0)
    calibrate(quantized, 3 * x)
    np.testing.assert_allclose(ranges(quantized)["quant_sequential_input"], (3 * x.min(), 3 * x.max()), rtol=1e-6)
    # The function that `predict` compiled before rounds in the new ranges.
    assert np.any(quantized.predict(x, verbose=0) != before)


def test_a_part_of_a_model_of_ones_own_is_calibrated_too():
    class Doubled(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return 2 * self.inner(x)

    x, model = drawn(40, 6), network()
    whole = Doubled(quantize_model(model))
    whole(x)
    assert ranges(calibrate(whole, x).inner) == ranges(quantize_model(model, x))


def infinite():
    return dataset(X).repeat()


def broken():
    yield X
    raise RuntimeError("the disk is gone")


def with_nan():
    x = X.copy()
    x[40, 2] = np.nan
    return x


WRONG = {
    "nan": (with_nan, ValueError, r"expected finite activations; got layer='quant_.*'. Look for NaN in the data"),
    "infinity": (lambda: [X, X / 0], ValueError, "expected finite activations"),
    "no sample": (lambda: X[:0], ValueError, "expected data with a sample in it; got batches=0"),
    "no batch": (lambda: iter([]), ValueError, "expected data with a sample in it"),
    "nothing": (list, ValueError, "expected data with a sample in it"),
    "a number": (lambda: 3, TypeError, "expected arrays or an iterable of batches; got data='int'"),
    "infinite": (infinite, ValueError, "expected data that ends"),
    "another shape": (lambda: drawn(40, 5), ValueError, "."),
    "an error in the data": (broken, RuntimeError, "the disk is gone"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore:divide by zero|invalid value:RuntimeWarning")
def test_after_an_error_ranges_are_as_before(name):
    make, error, message = WRONG[name]
    quantized = quantize_model(network(), 2 * X)
    before, y = variables(quantized), quantized.predict(X, verbose=0)
    with pytest.raises(error, match=message):
        calibrate(quantized, make())
    for a, b in zip(variables(quantized), before, strict=True):
        np.testing.assert_array_equal(a, b)
    # And it rounds again.
    np.testing.assert_allclose(quantized(X), y, rtol=0, atol=1e-6)


def test_inputs_have_as_many_samples():
    with pytest.raises(ValueError, match=r"calibrate: expected as many samples of each input; got samples=\[3, 4\]"):
        calibrate(quantize_model(two_inputs(list)), [drawn(3, 6), drawn(4, 4)])


def test_the_model_has_to_be_quantized():
    with pytest.raises(ValueError, match="calibrate: expected a model from quantize_model; got model='sequential'"):
        calibrate(network(), X)
    with pytest.raises(TypeError, match="calibrate: expected a model of Keras 3"):
        calibrate("model", X)


def test_inputs_are_the_only_ones_with_the_widest_range():
    quantized = quantize_model(network(), [X, 2 * X])
    (entry,) = [layer for layer in quantized.layers if isinstance(layer, QuantizedInput)]
    assert ranges(quantized)[entry.name] == pytest.approx((2 * X.min(), 2 * X.max()))
