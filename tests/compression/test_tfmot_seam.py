"""TFMOT is loaded when it is needed, and leaves Keras 3 and the environment as they were."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

UNUSED = """
import sys
import keras_kicks, keras_kicks.compression as compression
from keras_kicks.compression import prune_low_magnitude, quantize_model, cluster_weights
assert not [name for name in sys.modules if "tensorflow_model_optimization" in name or name == "tf_keras"]
try:
    compression.Nothing
except AttributeError as error:
    assert "has no attribute 'Nothing'" in str(error)
else:
    raise AssertionError
"""
USED = """
import os
before = dict(os.environ)
import keras
from keras_kicks.compression import ConstantSparsity, PolynomialDecay, prune_low_magnitude
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
prune_low_magnitude(model, PolynomialDecay(0, 0.5, 0, 10))
assert os.environ.get("TF_USE_LEGACY_KERAS") == before.get("TF_USE_LEGACY_KERAS"), os.environ
import tensorflow as tf
assert tf.keras.layers.Dense is keras.layers.Dense
assert tf.keras.Model is keras.Model
"""


def run(code, **environment):
    clean = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env={**clean, **environment}, check=True, timeout=300)


def test_to_import_the_package_loads_no_tfmot():
    run(UNUSED)


@pytest.mark.parametrize("environment", [{}, {"TF_USE_LEGACY_KERAS": "0"}])
def test_keras_and_the_environment_stay_as_they_are(environment):
    run(USED, **environment)
