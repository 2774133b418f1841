"""A model around another is exported as any Keras model is, and serves what it predicts."""

import keras
import numpy as np
import pytest

import keras_kicks as kk

pytestmark = pytest.mark.tensorflow


def network(name=None):
    hidden = keras.layers.Dense(4, "relu", name="hidden")
    return keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(1, name="out")], name=name)


def recurrent():
    layers = [keras.layers.GRU(4, return_sequences=True, unroll=False), keras.layers.Dense(1)]
    return kk.models.TruncatedBPTT(keras.Sequential([keras.Input((None, 3)), *layers]), 2)


def tied(mode):
    return kk.models.TiedModel(network(), kk.regularizers.ParameterTying(network("other"), 0.1, mode=mode))


X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X[:, :1]
LONG = np.stack([X, X, X, X], axis=1)
MODELS = {
    "SharpnessAware": (lambda: kk.models.SharpnessAware(network()), X, Y),
    "TiedModel": (lambda: tied("snapshot"), X, Y),
    "TiedModel, two-way": (lambda: tied("two-way"), [X, X], [Y, Y]),
    "TruncatedBPTT": (recurrent, LONG, LONG[..., :1]),
    "Bagging": (lambda: kk.models.Bagging(network, 2), X, Y),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_serves_what_it_predicts(name, tmp_path):
    import tensorflow as tf

    make, x, y = MODELS[name]
    model = make()
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    expected = keras.tree.flatten(model(x))
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    for got, value in zip(keras.tree.flatten(served.serve(x)), expected, strict=True):
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-5, atol=1e-6)
