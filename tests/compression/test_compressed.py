"""The summary of a compressed model, and what importing the package costs."""

import gzip
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_kicks.compression import Compressed
from keras_kicks.compression.compressed import weights_size


def test_sizes_are_those_of_the_file(tmp_path):
    content = np.zeros(5000, "uint8").tobytes() + np.random.default_rng(0).bytes(1000)
    (tmp_path / "file").write_bytes(content)
    got = Compressed.of_file(tmp_path / "file")
    assert (got.path, got.size, got.gzipped_size) == (str(tmp_path / "file"), 6000, len(gzip.compress(content, 9)))
    assert 1000 < got.gzipped_size < 1200


def test_what_is_not_known_is_not_printed():
    assert str(Compressed("a", 2048, 1024)) == "a: 2.0 KB, 1.0 KB gzipped"
    assert Compressed("a", 2048, 1024).row() == ["-", "2.0", "1.0", "-", "-"]


def test_what_is_known_is_printed():
    full = Compressed("a", 2048, 1024, "int8", 8192, accuracy=0.98765, latency=0.0123, score=2.5)
    expected = (
        "a: int8, 2.0 KB (0.25 of the weights), 1.0 KB gzipped, accuracy 0.9877, score 2.5000, 0.0123 ms per sample"
    )
    assert str(full) == expected
    assert full.row() == ["int8", "2.0", "1.0", "0.9877", "0.0123"]


@pytest.mark.tensorflow
@pytest.mark.parametrize(("policy", "size"), [("float32", 4), ("mixed_float16", 4), ("bfloat16", 2), ("float64", 8)])
def test_weights_have_the_size_of_their_dtype(policy, size):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5), keras.layers.BatchNormalization()])
    assert weights_size(model) == size * (3 * 5 + 5 + 4 * 5)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_importing_the_package_imports_no_toolkit():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_kicks.compression; "
        "print([m for m in ('tensorflow_model_optimization', 'tf_keras', 'ai_edge_litert', 'scipy', 'sklearn') "
        "if m in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
