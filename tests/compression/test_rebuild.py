"""Copies of models with other layers in them."""

import keras
import numpy as np
import pytest

from keras_kicks.compression.rebuild import copied, input_names, rebuilt

pytestmark = pytest.mark.tensorflow
L = keras.layers


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def plain(layer):
    return None


def nested():
    x = keras.Input((4,), name="x")
    shared = L.Dense(4, activation="tanh", name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared, L.BatchNormalization(name="norm")], name="inner")
    y = inner(shared(x)) + keras.ops.multiply(x, 2.0)
    return keras.Model({"x": x}, [y, L.Dense(2, name="end")(inner(y))], name="whole")


def test_a_copy_computes_the_same_with_variables_of_its_own():
    model, x = nested(), {"x": drawn(5, 4)}
    model.get_layer("end").trainable = False
    model.get_layer("inner").layers[1].set_weights([np.full(4, value) for value in (2.0, 1.0, 0.5, 3.0)])
    copy = rebuilt("test", model, plain)
    for a, b in zip(copy(x), model(x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert copy.name == "whole"
    assert len(copy.variables) == len(model.variables)
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    assert [v.path.split("/")[-1] for v in copy.trainable_variables] == [
        v.path.split("/")[-1] for v in model.trainable_variables
    ]
    # The shared layer is still one.
    assert copy.get_layer("inner").layers[0] is copy.get_layer("shared")


def test_a_layer_is_replaced_by_one_or_several_that_take_its_values():
    def replace(layer):
        if layer.name == "shared":
            return [copied(layer, activation=None), L.Activation("tanh", name="then")]
        return copied(layer, name="other") if layer.name == "end" else None

    model, x = nested(), {"x": drawn(5, 4)}
    copy = rebuilt("test", model, replace)
    for a, b in zip(copy(x), model(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert copy.get_layer("inner").layers[1] is copy.get_layer("then")
    assert copy.get_layer("other") is not None


class Taking(L.Dense):
    def take(self, old):
        self.kernel.assign(2 * old.kernel)


class Giving(L.Dense):
    def give(self, new):
        new.kernel.assign(3 * self.kernel)


def test_layers_may_take_and_give_by_themselves():
    x = drawn(5, 4)
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, use_bias=False)])
    taking = rebuilt("test", model, lambda layer: Taking(3, use_bias=False))
    np.testing.assert_allclose(taking(x), 2 * model(x), rtol=1e-6)
    model = keras.Sequential([keras.Input((4,)), Giving(3, use_bias=False)])
    given = rebuilt("test", model, lambda layer: L.Dense(3, use_bias=False))
    np.testing.assert_allclose(given(x), 3 * model(x), rtol=1e-6)


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_a_layer_is_put_behind_an_input(kind):
    x = drawn(5, 4)
    model = keras.Sequential([keras.Input((4,), name="first"), L.Dense(3)])
    if kind == "functional":
        a, b = keras.Input((4,), name="a"), keras.Input((4,), batch_size=5)
        model = keras.Model([a, b], [L.Add()([model(a), model(b)]), L.ReLU()(a)])
    names, seen = input_names(model), []

    def on_input(name):
        seen.append(name)
        return L.Rescaling(2.0) if name == names[0] else None

    copy = rebuilt("test", model, plain, on_input)
    assert seen == names
    assert names[0] == {"sequential": "sequential_input", "functional": "a"}[kind]
    given = x if kind == "sequential" else [x, x]
    scaled = 2 * x if kind == "sequential" else [2 * x, x]
    for a, b in zip(keras.tree.flatten(copy(given)), keras.tree.flatten(model(scaled)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [x.shape for x in copy.inputs] == [x.shape for x in model.inputs]


def test_what_is_no_graph_or_not_built_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    own = Own()
    own(drawn(2, 3))
    with pytest.raises(
        ValueError, match=r"^test: expected a Sequential or functional model; got model='Own'. Rewrite a"
    ):
        rebuilt("test", own, plain)
    with pytest.raises(ValueError, match=r"^test: expected a built model; got model='sequential'. Call it on a batch"):
        rebuilt("test", keras.Sequential([L.Dense(2)]), plain)
