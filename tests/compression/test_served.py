"""What a model takes, by name, and a model that computes in float32 for a while."""

import re

import keras
import numpy as np
import pytest
from compression.lite_models import MODELS, Subclassed, drawn
from keras import ops

from keras_kicks.compression.as_float32 import as_float32
from keras_kicks.compression.keras_layers import graph_of, set_dtype
from keras_kicks.compression.served import signature

pytestmark = pytest.mark.tensorflow


def takes(model):
    found = signature("test", model)
    return {name: (spec.shape, spec.dtype) for name, spec in zip(found.names, found.specs, strict=True)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deferred", {"inputs": ((1, 8), "float32")}),
        ("tokens", {"inputs": ((1, 5), "int32")}),
        ("branches", {"zeta": ((1, 3), "float32"), "alpha_2": ((1, 5), "float32")}),
        ("dictionary", {"alpha": ((1, 5), "float32"), "zeta": ((1, 3), "float32")}),
        ("subclassed", {"a": ((1, 3), "float32"), "b": ((1, 3), "float32")}),
    ],
)
def test_inputs_have_names_shapes_and_dtypes(name, expected):
    assert takes(MODELS[name]()[0]) == expected


def test_inputs_of_a_list_are_numbered_and_like_names_told_apart():
    class Pair(keras.Model):
        def call(self, inputs):
            return inputs[0] + inputs[1]

    model = Pair()
    model([drawn(2, 3), drawn(2, 3)])
    assert list(takes(model)) == ["inputs_0", "inputs_1"]
    inputs = [keras.Input((1,), name="a b"), keras.Input((1,), name="a-b"), keras.Input((1,), name="1")]
    assert list(takes(keras.Model(inputs, keras.layers.Add()(inputs)))) == ["a_b_0", "a_b_1", "x1"]


def test_arguments_of_a_call_are_inputs():
    class Two(keras.Model):
        def build(self, left_shape, right_shape):
            self.dense = keras.layers.Dense(2)
            self.dense.build(left_shape)

        def call(self, left, right):
            return self.dense(left) - self.dense(right)

    model = Two()
    model(drawn(2, 3), right=drawn(2, 3))
    assert takes(model) == {"left": ((1, 3), "float32"), "right": ((1, 3), "float32")}


def test_a_model_without_inputs_is_refused():
    model = Subclassed()
    model.built = True
    message = "test: expected a model that was called, or has an Input; got model="
    with pytest.raises(ValueError, match=re.escape(message)):
        signature("test", model)


def test_a_nested_model_that_casts_its_inputs_computes_in_float32_within_the_block():
    """Keras changes if this fails: set_dtype and graph_of name what it has no public name for."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, x = MODELS["deferred"]()
    before = ops.convert_to_numpy(model(x))
    assert model.inputs[0].dtype == graph_of(model).compute_dtype == "bfloat16"
    with as_float32(model):
        assert model.inputs[0].dtype == graph_of(model).compute_dtype == "float32"
        hidden, outer = model.layers[0], model.layers[1].layers[0]
        expected = np.tanh(x @ hidden.kernel.numpy() + hidden.bias.numpy()) @ outer.kernel.numpy()
        np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, rtol=1e-5, atol=1e-6)
    assert model.inputs[0].dtype == graph_of(model).compute_dtype == "bfloat16"
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), before)
    assert graph_of(model.layers[0]) is None


def test_the_policies_come_back_after_an_error():
    keras.config.set_dtype_policy("mixed_float16")
    model, _ = MODELS["deferred"]()

    def fail():
        with as_float32(model):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert {layer.compute_dtype for layer in model.layers} == {"float16"}
    assert model.inputs[0].dtype == "float16"


def test_the_dtype_of_a_symbol_is_set():
    x = keras.Input((3,), dtype="float16")
    set_dtype(x, "float32")
    assert x.dtype == "float32"
