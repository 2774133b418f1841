"""Which weights a norm is of, in models of all kinds."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.callbacks.layer_norms import LayerNorms, weights_by_layer
from keras_kicks.layers import DropConnect


def shapes(model):
    return {path: [tuple(weight.shape) for weight in weights] for path, weights in weights_by_layer(model).items()}


def dense(inputs, units):
    return [(inputs, units), (units,)]


def tower(name):
    """A model whose layer is called as that of any other tower."""
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(3, name="dense")(x), name=name)


class Block(layers.Layer):
    """Layers in attributes: one, a list and a dict; and a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4, name="inner")
        self.several = [layers.Dense(4, name="same")]
        self.named = {"key": layers.Dense(4, name="same")}

    def build(self, input_shape):
        for layer in (self.inner, *self.several, *self.named.values()):
            layer.build(input_shape)
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        return self.scale * self.named["key"](self.several[0](self.inner(x)))


def test_layers_of_the_same_name_in_different_models_are_told_apart():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(1, name="dense")(tower("a")(x) + tower("b")(x)))
    assert shapes(model) == {"a/dense": dense(4, 3), "b/dense": dense(4, 3), "dense": dense(3, 1)}


def test_layers_of_the_same_name_in_one_model_are_told_apart():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__(name="twins")
            self.left, self.right = tower("tower"), tower("tower")

        def call(self, x):
            return self.left(x) + self.right(x)

    model = Twins()
    model(np.zeros((1, 4)))
    assert shapes(model) == {"tower/dense": dense(4, 3), "tower_1/dense": dense(4, 3)}


def test_layers_in_attributes_are_found():
    model = keras.Sequential([keras.Input((4,)), Block(name="block")])
    assert shapes(model) == {
        "block": [()],
        "block/inner": dense(4, 4),
        "block/same": dense(4, 4),
        "block/same_1": dense(4, 4),
    }


def test_wrapped_layers_and_cells_are_found():
    cells = [layers.SimpleRNNCell(2, name="low"), layers.SimpleRNNCell(2, name="high")]
    recurrent = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True, name="rnn"), name="both")
    parts = [
        layers.TimeDistributed(layers.Dense(3, name="dense"), name="each"),
        recurrent,
        layers.RNN(cells, name="stack"),
        DropConnect(layers.Dense(1, name="dense"), 0.5, name="dropped"),
    ]
    model = keras.Sequential([keras.Input((5, 4)), *parts])
    found = shapes(model)
    assert found.pop("each/dense") == dense(4, 3)
    assert found.pop("dropped/dense") == dense(2, 1)
    cell_shapes = {path.split("/")[0]: [] for path in found}
    for path, cell in found.items():
        cell_shapes[path.split("/")[0]].append((path.split("/")[-1], cell))
    assert [cell for _, cell in cell_shapes["both"]] == [[(3, 3), (3, 3), (3,)]] * 2
    assert cell_shapes["stack"] == [("low", [(6, 2), (2, 2), (2,)]), ("high", [(2, 2), (2, 2), (2,)])]


def test_what_a_layer_keeps_to_itself_has_the_names_of_its_variables():
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.MultiHeadAttention(1, 2, use_bias=False, name="attention")(x, x))
    kernel = [(4, 1, 2)]
    assert shapes(model) == {
        "attention/query": kernel,
        "attention/key": kernel,
        "attention/value": kernel,
        "attention/attention_output": [(1, 2, 4)],
    }


def test_every_floating_weight_is_counted_once():
    shared = layers.Dense(4, name="shared")
    x = keras.Input((4,))
    normal = layers.BatchNormalization()(keras.Sequential([shared], name="nested")(shared(x)))
    model = keras.Model(x, layers.Dropout(0.5)(normal))
    found = [id(weight) for weights in weights_by_layer(model).values() for weight in weights]
    assert sorted(found) == sorted(id(weight) for weight in model.weights)
    assert set(shapes(model)) == {"shared", "batch_normalization"}


@pytest.mark.tensorflow
def test_quantized_weights_and_counters_have_no_norm():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")], name="model")
    model.layers[0].quantize("int8")
    integers = [w for w in model.weights if "int" in w.dtype]
    assert integers
    found = [id(weight) for weights in weights_by_layer(model).values() for weight in weights]
    assert not {id(w) for w in integers} & set(found)


def test_norms_are_those_of_numpy():
    """Trained weights alone for a layer that is trained, all of them for a frozen one."""
    normal, frozen = layers.BatchNormalization(name="normal"), layers.Dense(3, name="frozen", trainable=False)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="zero"), normal, frozen], name="model")
    rng = np.random.default_rng(0)
    before = [rng.normal(size=w.shape) + 2 for w in model.weights]
    model.set_weights(before)
    norms = LayerNorms(model)
    after = [w + 0.1 * rng.normal(size=w.shape) for w in before]
    after[:2] = [np.zeros((4, 3)), np.zeros(3)]
    model.set_weights(after)

    def norm(*arrays):
        return np.sqrt(sum((a**2).sum() for a in arrays))

    zero, gamma = norm(*before[:2]), norm(after[2] - before[2], after[3] - before[3])
    expected = {
        "weight_norm/zero": 0,
        "weight_norm/normal": norm(after[2], after[3]),
        "weight_norm/frozen": norm(*after[6:]),
        "update_norm/zero": zero,
        "update_norm/normal": gamma,
        # None of zero: nothing to divide by.
        "update_ratio/normal": gamma / norm(after[2], after[3]),
    }
    assert norms.read() == pytest.approx(expected, rel=1e-5)
    again = norms.read()
    assert again["update_norm/normal"] == 0
    assert again["weight_norm/normal"] == pytest.approx(expected["weight_norm/normal"])


def test_a_model_without_weights_has_no_norms():
    assert LayerNorms(keras.Sequential([keras.Input((4,)), layers.ReLU()])).read() == {}


@pytest.mark.tensorflow
def test_thresholds_of_a_model_that_is_pruned_are_no_weights():
    from keras_kicks.compression import ConstantSparsity, prune_low_magnitude

    model = tower("pruned")
    before = shapes(model)
    assert shapes(prune_low_magnitude(model, ConstantSparsity(0.5, 0))) == before
