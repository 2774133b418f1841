"""Keras models as .tflite files: their values, their types, and what is refused."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from compression.lite_models import MODELS, Quantized, convolution, dense, drawn, expected
from keras import ops

from keras_kicks.compression import (
    ConstantSparsity,
    predict_tflite,
    prune_low_magnitude,
    strip_pruning,
    to_tflite,
)

pytestmark = pytest.mark.tensorflow
INTEGERS = {"INT8", "INT32", "BOOL"}
# What LiteRT has in float32 alone: in the statistics of normalization, also of Keras's own.
FLOAT_ALONE = {"NEG", "SQUARE"}


def operations(path):
    """Return (name, names of the types of the tensors) of every operation in a file, read by LiteRT's schema."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    found = []
    for operator in graph.operators:
        # An input that an operation can do without has the index -1.
        tensors = [graph.tensors[i] for i in [*operator.inputs, *operator.outputs] if i >= 0]
        found.append((names[model.operatorCodes[operator.opcodeIndex].builtinCode], {types[t.type] for t in tensors}))
    return found


def computed(path):
    """Return the operations of a file that compute something."""
    return [(name, types) for name, types in operations(path) if name not in ("QUANTIZE", "DEQUANTIZE")]


def difference(model, x, path):
    """Return the largest difference of the outputs, relative to the largest output."""
    got = keras.tree.flatten(predict_tflite(path, x))
    pairs = zip(got, expected(model, x), strict=True)
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs)


@pytest.mark.parametrize("name", MODELS)
def test_the_float32_file_has_the_values_of_the_model(name, tmp_path):
    model, x = MODELS[name]()
    to_tflite(model, tmp_path / "model.tflite")
    assert difference(model, x, tmp_path / "model.tflite") < 1e-5


@pytest.mark.parametrize(
    ("mode", "near", "size"), [("float16", 2e-3, 0.6), ("dynamic", 3e-2, 0.4), ("int8", 8e-2, 0.4)]
)
def test_smaller_files_have_near_values(mode, near, size, tmp_path):
    model, x = dense()
    data = drawn(200, 8, seed=2) if mode == "int8" else None
    whole = to_tflite(model, tmp_path / "whole.tflite")
    small = to_tflite(model, tmp_path / "small.tflite", mode, representative_data=data)
    assert small.size == os.path.getsize(tmp_path / "small.tflite") < size * whole.size
    assert 1e-6 < difference(model, x, tmp_path / "small.tflite") < near


@pytest.mark.parametrize("name", ["convolution", "ours", "unrolled", "tokens", "dictionary", "branches"])
def test_every_operation_of_an_int8_file_is_int8(name, tmp_path):
    model, x = MODELS[name]()
    path = tmp_path / "model.tflite"
    data = x if not isinstance(x, dict) else [(x, None)]
    to_tflite(model, path, "int8", representative_data=data)
    assert len(computed(path)) >= 2
    lacking = FLOAT_ALONE if name == "ours" else set()
    assert {operation for operation, types in computed(path) if not types <= INTEGERS} == lacking
    assert difference(model, x, path) < 0.15


def test_a_split_that_the_converter_leaves_in_float_is_converted_again(tmp_path, monkeypatch):
    """By a converter that does so the first two times."""
    from keras_kicks.compression import tflite

    model, x = MODELS["unrolled"]()
    to_tflite(model, tmp_path / "float.tflite")
    floats, convert, calls = (tmp_path / "float.tflite").read_bytes(), tflite._convert, []

    def sometimes(*args):
        calls.append(convert(*args))
        return floats if len(calls) < 3 else calls[-1]

    monkeypatch.setattr(tflite, "_convert", sometimes)
    # Data that come but once.
    to_tflite(model, tmp_path / "model.tflite", "int8", representative_data=(batch for batch in [(x, None)]))
    assert len(calls) >= 3
    assert all(types <= INTEGERS for _, types in computed(tmp_path / "model.tflite"))


@pytest.mark.parametrize("name", ["convolution", "dictionary"])
def test_int8_io_leaves_nothing_of_float32(name, tmp_path):
    model, x = MODELS[name]()
    data = x if not isinstance(x, dict) else [(x, None)]
    path = tmp_path / "model.tflite"
    to_tflite(model, path, "int8", representative_data=data, int8_io=True)
    assert len(operations(path)) == len(computed(path))
    assert not any("FLOAT32" in types for _, types in operations(path))


@pytest.mark.slow
def test_int8_digits_are_classified_as_by_the_model(tmp_path):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype("float32")
    stack = [keras.layers.Conv2D(16, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    stack += [keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    model.fit(x[:1000], y[:1000], epochs=8, verbose=0)
    classes = model.predict(x[1000:], verbose=0).argmax(-1)
    accuracy = (classes == y[1000:]).mean()
    assert accuracy > 0.9
    for int8_io in (False, True):
        path = tmp_path / "model.tflite"
        to_tflite(model, path, "int8", representative_data=x[:300], int8_io=int8_io)
        got = predict_tflite(path, x[1000:]).argmax(-1)
        assert (got == classes).mean() >= 0.99
        assert abs((got == y[1000:]).mean() - accuracy) <= 0.005


@pytest.mark.parametrize("int8_io", [False, True])
def test_a_model_that_knows_its_ranges_needs_no_data(int8_io, tmp_path):
    model = keras.Sequential([keras.Input((8,)), Quantized(32, first=True), Quantized(4)])
    path = tmp_path / "model.tflite"
    to_tflite(model, path, "int8", int8_io=int8_io)
    assert [name for name, _ in computed(path)] == ["FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert all(types <= INTEGERS for _, types in computed(path))
    assert any("FLOAT32" in types for _, types in operations(path)) != int8_io
    x = drawn(50, 8)
    # One step of the output's range, 12 / 255, apart at most, where a rounding falls the other way.
    np.testing.assert_allclose(predict_tflite(path, x), model.predict(x, verbose=0), atol=12 / 255 + 1e-5)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("deferred", "mixed_bfloat16"),
        ("convolution", "mixed_bfloat16"),
        ("convolution", "mixed_float16"),
        ("ours", "mixed_float16"),
        ("attention", "mixed_bfloat16"),
        ("recurrent", "mixed_float16"),
        ("subclassed", "mixed_bfloat16"),
    ],
)
def test_a_mixed_policy_is_exported_in_float32(name, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model, x = MODELS[name]()
    narrow = expected(model, x)
    keras.config.set_dtype_policy("float32")
    wide, _ = MODELS[name]()
    wide.set_weights(model.get_weights())
    to_tflite(model, tmp_path / "model.tflite")
    assert difference(wide, x, tmp_path / "model.tflite") < 1e-5
    # The model itself still computes as it did.
    assert all(layer.dtype_policy.name == policy for layer in model.layers)
    for a, b in zip(narrow, expected(model, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pruned_model_is_exported_prepared_and_stripped(tmp_path):
    model, x = dense()
    prune_low_magnitude(model, ConstantSparsity(0.8, begin_step=0, frequency=1))
    model.compile("sgd", "mse")
    model.fit(x, x[:, :4], verbose=0)
    prepared = to_tflite(model, tmp_path / "prepared.tflite")
    assert difference(model, x, tmp_path / "prepared.tflite") < 1e-5
    stripped = to_tflite(strip_pruning(model), tmp_path / "stripped.tflite")
    assert difference(model, x, tmp_path / "stripped.tflite") < 1e-5
    unpruned = to_tflite(dense()[0], tmp_path / "dense.tflite")
    assert prepared.size == stripped.size
    assert stripped.gzipped_size < 0.6 * unpruned.gzipped_size


def test_a_model_of_replicas_is_exported(strategy, tmp_path):
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.BatchNormalization()])
        model.compile("sgd", "mse")
    x = drawn(32, 8)
    model.fit(x, drawn(32, 16), batch_size=32, verbose=0)
    to_tflite(model, tmp_path / "model.tflite")
    want = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(predict_tflite(tmp_path / "model.tflite", x), want, rtol=1e-5, atol=1e-5)


def test_a_batch_that_the_model_is_bound_to_is_kept(tmp_path):
    inputs = keras.Input(batch_shape=(4, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    to_tflite(model, tmp_path / "model.tflite")
    x = drawn(10, 3)
    want = ops.convert_to_numpy(ops.concatenate([model(x[:4]), model(x[4:8]), model(x[6:])[2:]]))
    np.testing.assert_allclose(predict_tflite(tmp_path / "model.tflite", x), want, rtol=1e-5, atol=1e-6)


def test_a_length_that_is_open_stays_open(tmp_path):
    stack = [keras.layers.Conv1D(4, 2), keras.layers.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input((None, 3)), *stack])
    to_tflite(model, tmp_path / "model.tflite")
    for length in (4, 7):
        x = drawn(3, length, 3)
        assert difference(model, x, tmp_path / "model.tflite") < 1e-5


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


def keras_2():
    import tf_keras  # noqa: TID251

    return tf_keras.Sequential([tf_keras.layers.Dense(1)])


def narrow():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])


def quantized():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.layers[0].quantize("int8")
    return model


def lacking():
    return keras.Sequential([keras.Input((3,)), keras.layers.Lambda(ops.erfinv)])


def two_arguments():
    class Two(keras.Model):
        def call(self, a, b):
            return a + b

    model = Two(name="two")
    model(np.ones((2, 3)), np.ones((2, 3)))
    return model


REFUSED_MODELS = [
    (keras_2, TypeError, "expected a model of Keras 3; got model='tf_keras"),
    (lambda: keras.Sequential([keras.layers.Dense(1)]), ValueError, "expected a built model; got model="),
    (lambda: keras.layers.Dense(1), ValueError, "expected a built model; got model="),
    (lambda: convolution()[0].layers[0], TypeError, "expected a model; got model='Conv2D'."),
    (narrow, ValueError, "expected a model of float32 weights; got weights=['bfloat16']."),
    (quantized, ValueError, "expected layers of float weights; got layer='dense', quantized='int8'."),
    (lacking, ValueError, "expected a model of operations that LiteRT has; got operations=Erfinv."),
    (two_arguments, ValueError, "expected a model that runs on the inputs it was built with; got model='two', inputs="),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED_MODELS)
def test_models_that_cannot_be_exported_are_refused(make, error, message, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_text("old", encoding="utf-8")
    with refused(error, f"to_tflite: {message}"):
        to_tflite(make(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    assert path.read_text(encoding="utf-8") == "old"


def with_nan():
    x = drawn(20, 8)
    x[3, 2] = np.nan
    return x


def endless():
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(drawn(4, 8)).repeat()


REFUSED_ARGUMENTS = [
    (
        {"mode": "int4"},
        ValueError,
        "expected mode to be one of 'float32', 'float16', 'dynamic', 'int8'; got mode='int4'",
    ),
    ({"int8_io": True}, ValueError, "expected int8_io with mode=\"int8\" alone; got mode='float32', int8_io=True."),
    ({"representative_data": [1]}, ValueError, 'expected representative_data with mode="int8" alone; got mode='),
    ({"mode": "int8"}, ValueError, 'expected representative_data for mode="int8"; got representative_data=None.'),
]
REFUSED_DATA = [
    (lambda: drawn(0, 8), ValueError, "expected data with a sample in it; got samples=0."),
    (list, ValueError, "expected data with a sample in it; got samples=0."),
    (with_nan, ValueError, "expected finite inputs; got input='inputs'. Look for NaN."),
    (lambda: drawn(20, 7), ValueError, "expected inputs of shape (None, 8); got inputs=(20, 7)."),
    (lambda: drawn(8), ValueError, "expected inputs of shape (None, 8); got inputs=(8,)."),
    (
        lambda: {"x": drawn(20, 8)},
        TypeError,
        "expected inputs as the model takes them; got inputs='dict'. It takes inputs",
    ),
    (lambda: np.array([["a"] * 8]), TypeError, "expected numbers for inputs; got input='inputs', dtype='<U1'."),
    (lambda: 3, TypeError, "expected arrays or an iterable of batches; got data='int'."),
    (endless, ValueError, "expected data that ends; got cardinality='infinite'."),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED_ARGUMENTS)
def test_wrong_arguments_are_refused(arguments, error, message, tmp_path):
    with refused(error, f"to_tflite: {message}"):
        to_tflite(dense()[0], tmp_path / "model.tflite", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("make", "error", "message"), REFUSED_DATA)
def test_wrong_data_is_refused(make, error, message, tmp_path):
    with refused(error, f"to_tflite: {message}"):
        to_tflite(dense()[0], tmp_path / "model.tflite", "int8", representative_data=make())
    assert not list(tmp_path.iterdir())


def test_a_mistake_in_a_later_batch_is_told_as_it_is(tmp_path):
    with refused(ValueError, "to_tflite: expected finite inputs; got input='inputs'."):
        to_tflite(dense()[0], tmp_path / "model.tflite", "int8", representative_data=[drawn(5, 8), with_nan()])


def test_a_loop_is_refused_in_int8_before_it_crashes(tmp_path):
    model, x = MODELS["recurrent"]()
    message = (
        "to_tflite: expected no loop for mode=\"int8\", which LiteRT lacks; got operations=['While']. Give recurrent"
    )
    with refused(ValueError, message):
        to_tflite(model, tmp_path / "model.tflite", "int8", representative_data=x)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (None, TypeError, "expected a path; got path=None."),
        ("model.h5", ValueError, "expected a path that ends with .tflite; got path="),
        ("nowhere/model.tflite", ValueError, "expected a directory that exists; got directory="),
        ("folder.tflite", ValueError, "expected the path of a file; got path="),
    ],
)
def test_wrong_paths_are_refused(path, error, message, tmp_path):
    (tmp_path / "folder.tflite").mkdir()
    with refused(error, f"to_tflite: {message}"):
        to_tflite(dense()[0], path and os.path.join(tmp_path, path))


@pytest.mark.slow
def test_a_saved_model_is_exported_in_a_fresh_process(tmp_path):
    model, x = MODELS["ours"]()
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, keras_kicks, sys; from keras_kicks.compression import to_tflite; "
        "to_tflite(keras.models.load_model(sys.argv[1]), sys.argv[2])"
    )
    paths = [str(tmp_path / "model.keras"), str(tmp_path / "model.tflite")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, timeout=120)
    assert difference(model, x, tmp_path / "model.tflite") < 1e-5
