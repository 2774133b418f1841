"""Marks on layers: that they change nothing, which layers are quantized for them, and how."""

import keras
import numpy as np
import pytest
from compression.test_fake_quantizer import rounded
from compression.test_quantize import chain, drawn, functional, near, places, quantized_layers, trained

from keras_kicks.compression import quantize_annotate_layer, quantize_model

pytestmark = pytest.mark.tensorflow
L = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.layers.Layer):
    """Returns x W * s for weights W of two axes and s of one."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], self.units), name="matrix")
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x):
        return x @ self.matrix * self.scale

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def marked():
    layers = [quantize_annotate_layer(L.Dense(8, activation="relu", name="hidden"))]
    return chain(*layers, L.LayerNormalization(), quantize_annotate_layer(L.Dense(3, name="end")))


def test_a_mark_changes_nothing(tmp_path):
    keras.utils.set_random_seed(1)
    plain = chain(L.Dense(8, activation="relu"), L.LayerNormalization(), L.Dense(3, kernel_regularizer="l2"))
    model, x, y = marked(), drawn(32, 6), drawn(32, 3)
    model.layers[2].layer.kernel_regularizer = plain.layers[2].kernel_regularizer
    model.set_weights(plain.get_weights())
    np.testing.assert_array_equal(model.predict(x, verbose=0), plain.predict(x, verbose=0))
    assert model.output_shape == plain.output_shape
    trained(model, x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert places(quantize_model(loaded)) == places(quantize_model(model))


def test_only_marked_layers_are_quantized():
    model, x = marked(), drawn(40, 6)
    quantized = quantize_model(model, x)
    assert places(quantized) == {"hidden": (["kernel"], False, True), "end": (["kernel"], False, True)}
    assert [layer.name for layer in quantized.layers][-2:] == [model.layers[1].name, "quant_end"]
    near(quantized.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_marked_layer_is_one_with_marked_ones_around_it():
    stack = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU(name="relu")]
    quantized = quantize_model(chain(*map(quantize_annotate_layer, stack), L.ELU(), shape=(8, 8, 2)))
    assert places(quantized) == {
        "conv": (["kernel"], False, False),
        "norm": ([], False, False),
        "relu": ([], False, True),
    }


@pytest.mark.parametrize("kind", ["per_tensor", "per_channel"])
def test_weights_of_a_layer_of_ones_own_are_rounded(kind, tmp_path):
    weights = ["matrix"] if kind == "per_tensor" else {"matrix": kind}
    model = chain(quantize_annotate_layer(Scaled(name="own"), weights, output=False))
    x = drawn(16, 6)
    quantized = quantize_model(model, x)
    assert places(quantized) == {"own": (["matrix"], False, False)}
    assert quantized.output_shape == model.output_shape == (None, 3)
    w, scale = model.get_weights()
    largest = np.abs(w).max(axis=None if kind == "per_tensor" else 0)
    expected = rounded(x, x.min(), x.max()) @ rounded(w, -largest, largest, narrow=True) * scale
    np.testing.assert_allclose(quantized.predict(x, verbose=0), expected, rtol=0, atol=1e-5)
    trained(quantized, x, drawn(16, 3))
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0))


@pytest.mark.parametrize(("output", "after"), [(None, True), (True, True), (False, False)])
def test_the_output_of_a_layer_of_ones_own_is_rounded_unless_it_is_not_to_be(output, after):
    layer = quantize_annotate_layer(Scaled(name="own"), {"matrix": "per_tensor", "scale": "per_tensor"}, output)
    quantized = quantize_model(chain(layer), drawn(64, 6))
    assert places(quantized) == {"own": (["matrix", "scale"], False, after)}
    assert (np.unique(quantized.predict(drawn(2000, 6), verbose=0)).size <= 256) == after


def test_what_is_asked_for_wins_over_what_follows():
    asked = quantize_annotate_layer(Scaled(name="own"), ["matrix"], output=True)
    relu, whole = quantize_annotate_layer(L.ReLU(name="relu")), quantize_annotate_layer(L.Concatenate(name="whole"))
    assert places(quantize_model(chain(asked, relu)))["own"] == (["matrix"], False, True)

    def both(x):
        own = quantize_annotate_layer(L.Identity(name="same"), [], output=True)
        return whole([own(x), quantize_annotate_layer(L.LeakyReLU(name="leaky"))(x)])

    found = places(quantize_model(functional(both)))
    assert found == {"same": ([], False, True), "leaky": ([], False, False), "whole": ([], False, True)}


def test_an_input_is_rounded_for_a_marked_layer_alone():
    def inputs_of(model):
        return [layer.name for layer in quantize_model(model).layers if layer.name.startswith("quant_seq")]

    assert inputs_of(chain(L.ELU(), quantize_annotate_layer(L.Dense(3)))) == []
    assert len(inputs_of(chain(quantize_annotate_layer(L.Dense(3)), L.ELU()))) == 1


def test_a_frozen_marked_layer_stays_frozen():
    layer = quantize_annotate_layer(L.Dense(3, name="dense"))
    layer.trainable = False
    quantized = quantize_model(chain(layer, quantize_annotate_layer(L.Dense(2, name="end"))))
    assert not quantized_layers(quantized)["dense"].trainable_weights
    assert len(quantized_layers(quantized)["end"].trainable_weights) == 2


WRONG = [
    (lambda: quantize_annotate_layer("dense"), TypeError, "expected a layer of Keras 3, no model; got layer='bui"),
    (lambda: quantize_annotate_layer(chain(L.Dense(2))), TypeError, "no model; .* Mark the layers of a model one"),
    (
        lambda: quantize_annotate_layer(quantize_annotate_layer(L.Dense(2, name="x"))),
        ValueError,
        "expected a layer that is not marked yet; got layer='annotated_x'",
    ),
    (lambda: quantize_annotate_layer(L.Dense(2), "kernel"), TypeError, "expected a list of names, or a dict"),
    (lambda: quantize_annotate_layer(L.Dense(2), [3]), TypeError, "expected a list of names, or a dict, for weights"),
    (
        lambda: quantize_annotate_layer(L.Dense(2), {"kernel": "per_row"}),
        ValueError,
        "expected kernel to be one of 'per_tensor', 'per_channel'; got kernel='per_row'",
    ),
    (lambda: quantize_annotate_layer(L.Dense(2), output="y"), TypeError, "a bool, or None, for output; got output='y'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_wrong_marks_are_refused(make, error, message):
    with pytest.raises(error, match=f"^quantize_annotate_layer: .*{message}"):
        make()


def test_a_layer_has_to_have_the_weights():
    message = r"^quantize_model: expected names of attributes that hold a weight; got layer='own', weight='kernel'\. "
    with pytest.raises(ValueError, match=message + r"It has: matrix, scale\.$"):
        quantize_model(chain(quantize_annotate_layer(Scaled(name="own"), ["kernel"])))
    message = r"expected weights of rank 2 to 4 for per_channel; got layer='own', weight='scale', rank=1\. Use"
    with pytest.raises(ValueError, match=message):
        quantize_model(chain(quantize_annotate_layer(Scaled(name="own"), {"scale": "per_channel"})))


def test_an_output_that_is_rounded_is_a_single_tensor():
    model = chain(quantize_annotate_layer(L.LSTM(2, return_state=True), []), shape=(4, 3))
    message = "expected a layer that returns a single tensor; got layer='LSTM'. Mark it with output=False."
    with pytest.raises(ValueError, match=message):
        quantize_model(model, drawn(4, 4, 3))
