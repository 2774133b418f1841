"""What has no public name in Keras is still there: these fail when Keras changes it."""

import keras
import numpy as np
import pytest
from compression.pruned_models import L, attention, sequential

from keras_kicks.compression import keras_layers
from keras_kicks.layers import DropConnect

pytestmark = pytest.mark.tensorflow


def test_all_layers_are_found_once_also_private_ones():
    shared = L.Dense(6, name="shared")
    model = sequential(
        DropConnect(shared, 0.5, name="drop"), shared, L.Bidirectional(L.LSTM(3), name="both"), shape=(4, 6)
    )
    found = keras_layers.all_layers(model)
    assert found[0] is model
    assert len({id(layer) for layer in found}) == len(found)
    names = [layer.name for layer in found]
    assert names.count("shared") == 1
    assert sum(isinstance(layer, L.LSTMCell) for layer in found) == 2
    assert {"query", "key", "value", "attention_output"} <= {part.name for part in keras_layers.all_layers(attention())}


def test_own_variables_are_those_the_layer_made_frozen_or_not():
    model = sequential(L.Dense(3), L.BatchNormalization())
    model.trainable = False
    assert keras_layers.own_variables(model) == []
    assert [variable.name for variable in keras_layers.own_variables(model.layers[0])] == ["kernel", "bias"]
    # Statistics are none that are trained.
    assert [variable.name for variable in keras_layers.own_variables(model.layers[1])] == ["gamma", "beta"]


def test_a_built_layer_takes_a_part_and_gives_it_back():
    layer = sequential(L.Dense(3)).layers[0]
    part = L.Dense(2)
    part.build((None, 2))
    with pytest.raises(ValueError, match="cannot add new elements"):
        layer.part = part
    keras_layers.put(layer, "part", part)
    assert len(layer.variables) == 4
    keras_layers.put(layer, "part", None)
    assert layer.part is None
    assert len(layer.variables) == 2
    with pytest.raises(ValueError, match="cannot add new elements"):
        layer.other = L.Dense(2)


@pytest.mark.parametrize("kind", [L.MultiHeadAttention, L.GroupQueryAttention])
def test_attention_layers_hold_the_constraint_of_their_parts(kind):
    model = attention(kind, kernel_constraint="non_neg") if kind is L.MultiHeadAttention else attention(kind)
    layer = next(part for part in model.layers if isinstance(part, kind))
    parts, name = keras_layers.attention_parts(layer)
    assert [part.name for part in parts] == ["query", "key", "value", "attention_output"]
    held = getattr(layer, name)
    if kind is L.MultiHeadAttention:
        assert isinstance(held, keras.constraints.NonNeg)
    assert all(type(part.kernel_constraint) is type(held) for part in parts)
    # What is put there is what Keras saves.
    keras_layers.put(layer, name, keras.constraints.MaxNorm(3))
    assert layer.get_config()["kernel_constraint"]["class_name"] == "MaxNorm"
    assert keras_layers.attention_parts(model) == (None, None)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_constraint_learns_which_variables_the_optimizer_applies(wrapped):
    seen = []

    class Watch(keras.constraints.Constraint):
        def __call__(self, w):
            seen.append(keras_layers.applied_variables())
            return w

    model = sequential(L.Dense(3, kernel_constraint=Watch(), name="a"), L.Dense(3, name="b"))
    model.layers[1].trainable = False
    optimizer = keras.optimizers.SGD()
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer, "mse")
    model.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0)
    assert len(seen) >= 1
    assert all([variable.path.split("/", 1)[1] for variable in found] == ["a/kernel", "a/bias"] for found in seen)
    with pytest.raises(RuntimeError, match="expected an optimizer of Keras to apply it"):
        keras_layers.applied_variables()
