"""Plain models of those with L0 gates."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_kicks.compression import sparsity_report, strip_l0
from keras_kicks.layers import L0

pytestmark = pytest.mark.tensorflow
L = keras.layers


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def model_with_gates():
    """A nested functional model, one of whose gated layers is called twice."""
    x = keras.Input((8, 8, 3))
    y = L0(L.Conv2D(4, 3, activation="relu"), gates="output", name="conv")(x)
    y = L.BatchNormalization()(y)
    inner = keras.Sequential([keras.Input((6, 6, 4)), L.Flatten(), L0(L.Dense(5, "tanh"), name="dense")], name="inner")
    shared = L0(L.Dense(5), gates="input", name="shared")
    y = shared(shared(inner(y)))
    model = keras.Model(x, y)
    for i, layer in enumerate([model.get_layer("conv"), inner.get_layer("dense"), shared]):
        values = 3 * drawn(*layer.log_alphas[0].shape, seed=i)
        values.flat[0] = -5
        layer.log_alphas[0].assign(values)
        layer.layer.bias.assign(drawn(*layer.layer.bias.shape))
    return model


def gated(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, L0)]


def test_the_plain_model_is_the_model_in_inference():
    model, x = model_with_gates(), drawn(4, 8, 8, 3)
    plain = strip_l0(model)
    assert gated(plain) == []
    np.testing.assert_array_equal(plain.predict(x, verbose=0), model.predict(x, verbose=0))
    layers = gated(model)
    report = sparsity_report(plain)
    biases = 4 - np.count_nonzero(plain.get_layer("conv").bias)
    closed = report.total.weights + 4 - sum(int(layer.active_weights()) for layer in layers)
    assert report.total.zeros + biases == closed
    assert report.total.zeros > 0
    assert plain.count_params() < model.count_params()


def test_the_model_is_not_changed_and_goes_on_training():
    model, x = model_with_gates(), drawn(4, 8, 8, 3)
    before = model.predict(x, verbose=0)
    strip_l0(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((4, 5), "float32"), verbose=0)


@pytest.mark.slow
def test_the_file_of_a_plain_model_needs_nothing_of_ours(tmp_path):
    model, x = model_with_gates(), drawn(4, 8, 8, 3)
    plain = strip_l0(model)
    plain.save(tmp_path / "plain.keras")
    np.savez(tmp_path / "data.npz", x=x, y=model.predict(x, verbose=0))
    code = """
import sys, keras, numpy as np
data = np.load(sys.argv[1] + "/data.npz")
y = keras.saving.load_model(sys.argv[1] + "/plain.keras").predict(data["x"], verbose=0)
np.testing.assert_allclose(y, data["y"], rtol=1e-6, atol=1e-6)
assert "keras_kicks" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_training_goes_on_from_a_file(tmp_path):
    """Locations and the optimizer's state are those of the model that was saved."""
    x, y = drawn(8, 6), drawn(8, 3, seed=1)
    model = keras.Sequential([keras.Input((6,)), L0(L.Dense(3), 0.01, seed=2)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # Keras saves the state of no seed generator: the draws of a loaded model begin anew.
    loaded.layers[0].seed_generator.state.assign(model.layers[0].seed_generator.state)
    for each in (model, loaded):
        each.fit(x, y, epochs=3, verbose=0)
    for a, b in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [L.Dense(3)], "strip_l0: expected a model with L0 layers; got model="),
        (
            lambda: [L.TimeDistributed(L0(L.Dense(3), name="within"))],
            "strip_l0: expected no L0 layer within another layer; got layers=['within']. Wrap the layer itself",
        ),
    ],
)
def test_what_cannot_be_stripped_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        strip_l0(keras.Sequential([keras.Input((2, 4)), *make()]))
