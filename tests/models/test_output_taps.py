"""A layer's output is that of the pass that computes the model's output, whatever else the layer was called for."""

import keras
import numpy as np
import pytest

from keras_kicks._producer import producer
from keras_kicks.losses import FeatureDistillation
from keras_kicks.models import Distiller
from keras_kicks.models.output_taps import OutputTaps

pytestmark = pytest.mark.tensorflow

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")


def sequential():
    layers = [keras.layers.Dense(4, name="features"), keras.layers.Dropout(0.5, name="drop"), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((6,)), *layers])


def loaded(tmp_path):
    sequential().save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def rebuilt(tmp_path):
    """The layers of one model in another."""
    return keras.Sequential([keras.Input((6,)), *sequential().layers])


def nested(tmp_path):
    """A model on top of a layer that was called before, for other inputs."""
    layer = keras.layers.Dropout(0.5, name="drop")
    layer(keras.Input((2, 6)))
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.Sequential([keras.layers.Dense(4)])(layer(inputs)))


@pytest.mark.parametrize("make", [loaded, rebuilt, nested])
def test_named_layers_run_once_with_the_model(make, tmp_path):
    model = make(tmp_path)
    outputs = OutputTaps(model, ["drop"], "Test", "student")(X, training=True)
    dropped = outputs["features"]["drop"]
    assert (dropped.numpy() == 0).any()
    np.testing.assert_allclose(model.layers[-1](dropped), outputs["output"], rtol=1e-5, atol=1e-6)


def test_loaded_student_moves_its_statistics_once_in_a_step(tmp_path):
    layers = [keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(4, name="features")]
    keras.Sequential([keras.Input((6,)), *layers]).save(tmp_path / "student.keras")
    student = keras.saving.load_model(tmp_path / "student.keras")
    loss = FeatureDistillation("mse", "features", "features")
    distiller = Distiller(sequential(), student, loss, student_loss_weight=0.0)
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(X, verbose=0)
    norm = student.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, (1 - norm.momentum) * X.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_producer_is_the_layer_at_the_end_of_nested_models():
    last = keras.layers.Dense(2)
    inner = keras.Sequential([keras.Input((6,)), keras.Sequential([keras.Input((6,)), last])])
    assert producer(keras.Sequential([keras.Input((6,)), inner]).outputs[0]) is last
    assert producer(keras.ops.zeros((2,))) is None
