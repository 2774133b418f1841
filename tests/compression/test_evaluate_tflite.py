"""evaluate_tflite and predict_tflite against the Keras model, and what they refuse."""

import gzip
import re
import sys

import keras
import numpy as np
import pytest
from compression.lite_models import MODELS, drawn, expected

from keras_kicks.compression import evaluate_tflite, predict_tflite, to_tflite

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lite")


@pytest.fixture(scope="module")
def identity(folder):
    """A file whose outputs are its three inputs."""
    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="identity")(inputs))
    to_tflite(model, folder / "identity.tflite")
    return folder / "identity.tflite"


@pytest.fixture(scope="module")
def single(folder):
    """A file with one output a sample, its one input."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    to_tflite(model, folder / "single.tflite")
    return folder / "single.tflite"


@pytest.fixture(scope="module")
def two(folder):
    """A file with two inputs, and two outputs without names."""
    to_tflite(MODELS["branches"]()[0], folder / "two.tflite")
    return folder / "two.tflite"


@pytest.fixture(scope="module")
def joined(folder):
    """A file with two inputs and the logits of two classes, with its model."""
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    x = keras.layers.Concatenate()([inputs["b"], inputs["a"]])
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    to_tflite(model, folder / "joined.tflite")
    return model, folder / "joined.tflite"


SCORES = np.array([[0.1, 0.7, 0.2], [5, -1, 2], [-3, -2, -1], [0, 1, 0]], "float32")


@pytest.mark.parametrize(
    ("labels", "accuracy"),
    [
        ([1, 0, 2, 1], 1.0),
        ([1, 0, 2, 0], 0.75),
        ([[2], [2], [2], [2]], 0.25),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]], 0.75),
        ([1.0, 0.0, 0.0, 0.0], 0.5),
    ],
)
def test_the_accuracy_of_classes_is_that_of_the_largest_output(labels, accuracy, identity):
    assert evaluate_tflite(identity, (SCORES, np.array(labels))).accuracy == accuracy


@pytest.mark.parametrize(("threshold", "accuracy"), [(0.5, 0.75), (0, 1.0), (-5, 0.75)])
def test_the_accuracy_of_one_output_is_that_of_a_threshold(threshold, accuracy, single):
    x, y = np.array([[-4.0], [0.2], [0.7], [0.8]]), np.array([0, 1, 1, 1])
    for labels in (y, y[:, None]):
        assert evaluate_tflite(single, (x, labels), threshold=threshold).accuracy == accuracy


def test_the_accuracy_is_that_of_keras(joined):
    """Arrays, batches and weighted batches of a tf.data.Dataset, with an uneven last batch, and a PyDataset."""
    import tensorflow as tf

    model, path = joined
    x, y = {"a": drawn(50, 3), "b": drawn(50, 2, seed=1)}, np.arange(50) % 2
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    want = model.evaluate(x, y, verbose=0)[1]
    assert 0 < want < 1

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            rows = slice(10 * i, 10 * i + 10)
            return {name: value[rows] for name, value in x.items()}, y[rows]

    data = tf.data.Dataset.from_tensor_slices((x, y))
    weighted = tf.data.Dataset.from_tensor_slices((x, y, np.ones(50)))
    for given in ((x, y), data.batch(7), weighted.batch(7), Batches()):
        assert evaluate_tflite(path, given).accuracy == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    "metric",
    [
        "mae",
        keras.metrics.MeanAbsoluteError(),
        keras.losses.mean_absolute_error,
        lambda y, outputs: np.abs(y - outputs).mean(),
    ],
)
def test_a_metric_takes_the_place_of_the_accuracy(metric, single):
    x = drawn(10, 1)
    for offset in (0.75, 0.25):
        got = evaluate_tflite(single, (x, x + offset), metric=metric)
        assert got.score == pytest.approx(offset, abs=1e-5)
        assert got.accuracy is None
    assert "score 0.2500" in str(got)


def test_places_of_a_sequence_count_each(folder):
    model = keras.Sequential([keras.Input((2, 3)), keras.layers.Dense(3, kernel_initializer="identity")])
    to_tflite(model, folder / "sequence.tflite")
    got = evaluate_tflite(folder / "sequence.tflite", (SCORES.reshape(2, 2, 3), np.array([[1, 0], [2, 0]])))
    assert got.accuracy == 0.75


def test_sizes_and_latency_are_those_of_the_file(identity):
    got = evaluate_tflite(identity, (SCORES, np.zeros(4)), num_threads=2)
    content = identity.read_bytes()
    assert (got.path, got.size) == (str(identity), len(content))
    assert got.gzipped_size == len(gzip.compress(content, 9))
    assert 0 < got.latency < 1000


def test_the_latency_is_the_median_after_warm_up(identity, monkeypatch):
    """Invocations of 50 ms in the warm-up and of 1, 2 and 9 ms after it, by a clock that only they move."""
    from keras_kicks.compression import lite_file

    durations = iter([0.05] * 2 + [0.001, 0.009, 0.002])
    now = [0.0]
    monkeypatch.setattr(lite_file.time, "perf_counter", lambda: now[0])

    class Clocked:
        def invoke(self):
            now[0] += next(durations)

    file = lite_file.LiteFile("test", identity, 1)
    file.interpreter = Clocked()
    assert file.latency(warm_up=2, runs=3) == pytest.approx(2.0)


@pytest.mark.parametrize("int8_io", [False, True])
def test_int8_inputs_and_outputs_are_converted(int8_io, tmp_path):
    model, x = MODELS["dense"]()
    to_tflite(model, tmp_path / "model.tflite", "int8", representative_data=x, int8_io=int8_io)
    got = predict_tflite(tmp_path / "model.tflite", x)
    want = model.predict(x, verbose=0)
    assert got.dtype == np.float32
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
    # What lies beyond the calibrated range saturates and does not wrap round.
    np.testing.assert_array_equal(
        predict_tflite(tmp_path / "model.tflite", 100 * np.sign(x)),
        predict_tflite(tmp_path / "model.tflite", 1000 * np.sign(x)),
    )


def test_predictions_have_the_structure_of_the_outputs(two, folder):
    model, x = MODELS["branches"]()
    assert [y.shape for y in predict_tflite(two, x)] == [(20, 4), (20, 2)]
    model, x = MODELS["dictionary"]()
    to_tflite(model, folder / "dictionary.tflite")
    got, want = predict_tflite(folder / "dictionary.tflite", x), model.predict(x, verbose=0)
    assert set(got) == {"sum", "difference"}
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)


def test_a_file_of_another_converter_is_run(tmp_path):
    import tensorflow as tf

    model, x = MODELS["convolution"]()
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (tmp_path / "model.tflite").write_bytes(content)
    got = predict_tflite(tmp_path / "model.tflite", x)
    np.testing.assert_allclose(got, expected(model, x)[0], rtol=1e-5, atol=1e-6)


def refused(error, message):
    return pytest.raises(error, match=re.escape(message))


REFUSED = [
    ((drawn(0, 3), np.zeros(0)), ValueError, "expected data with a sample in it; got samples=0."),
    ([], ValueError, "expected data with a sample in it; got samples=0."),
    (SCORES, TypeError, "expected pairs of inputs and labels; got data='ndarray'. Pass (x, y), or batches of that."),
    (3, TypeError, "expected arrays or an iterable of batches; got data='int'."),
    ((SCORES[:, :2], np.zeros(4)), ValueError, "expected inputs of shape (None, 3); got x=(4, 2)."),
    ((SCORES[0], np.zeros(3)), ValueError, "expected inputs of shape (None, 3); got x=(3,)."),
    ((SCORES + np.nan, np.zeros(4)), ValueError, "expected finite inputs; got input='x'. Look for NaN."),
    (
        ([SCORES, SCORES], np.zeros(4)),
        TypeError,
        "expected inputs as the model takes them; got inputs='list'. It takes x:",
    ),
    ((SCORES, np.zeros(3)), ValueError, "expected one label a sample; got labels=3, samples=4."),
    ((SCORES, 1), ValueError, "expected one label a sample; got labels=0, samples=4."),
    (
        (SCORES, np.zeros((4, 2))),
        ValueError,
        "expected labels of shape (4,) or (4, 3); got labels=(4, 2). For regression",
    ),
    ((SCORES, np.array([0, 1, 2, 3])), ValueError, "expected class ids from 0 to 2; got lowest=0, highest=3."),
    ((SCORES, np.array([0, 1, -1, 2])), ValueError, "expected class ids from 0 to 2; got lowest=-1, highest=2."),
    ((SCORES, np.array([0, 1, 0.5, 2])), ValueError, "expected class ids from 0 to 2; got lowest=0.0, highest=2.0."),
]


@pytest.mark.parametrize(("data", "error", "message"), REFUSED)
def test_wrong_data_is_refused(data, error, message, identity):
    with refused(error, f"evaluate_tflite: {message}"):
        evaluate_tflite(identity, data)


def test_labels_of_a_regression_are_refused_without_a_metric(single):
    with refused(
        ValueError, "expected class ids from 0 to 1; got lowest=0.5, highest=2.5. For regression pass a metric."
    ):
        evaluate_tflite(single, (drawn(2, 1), np.array([0.5, 2.5])))


def test_inputs_are_asked_for_by_name(two):
    message = (
        "predict_tflite: expected inputs as the model takes them; got inputs='list'. It takes alpha_2: (1, 5), zeta:"
    )
    with refused(TypeError, message):
        predict_tflite(two, [drawn(2, 3), drawn(2, 5)])
    with refused(
        ValueError, "predict_tflite: expected as many samples of each input; got samples={'alpha_2': 3, 'zeta': 2}."
    ):
        predict_tflite(two, {"zeta": drawn(2, 3), "alpha_2": drawn(3, 5)})
    with refused(ValueError, "evaluate_tflite: expected a file with one output; got outputs=['output_0', 'output_1']."):
        evaluate_tflite(two, ({"zeta": drawn(2, 3), "alpha_2": drawn(2, 5)}, np.zeros(2)))


def test_integers_that_the_input_cannot_hold_are_refused(tmp_path):
    model, x = MODELS["tokens"]()
    to_tflite(model, tmp_path / "model.tflite")
    np.testing.assert_allclose(
        predict_tflite(tmp_path / "model.tflite", x), expected(model, x)[0], rtol=1e-5, atol=1e-6
    )
    for wrong in (x + 0.5, x + 2**40):
        with refused(ValueError, "predict_tflite: expected inputs that int32 holds; got input='inputs', value=["):
            predict_tflite(tmp_path / "model.tflite", wrong)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"threshold": "a"}, TypeError, "expected a number for threshold; got threshold='a'."),
        ({"num_threads": 0}, ValueError, "expected num_threads >= 1; got num_threads=0."),
        ({"num_threads": 1.5}, TypeError, "expected an integer for num_threads; got num_threads=1.5."),
        ({"path": 3}, TypeError, "expected a path; got path=3."),
        ({"path": "missing.tflite"}, ValueError, "expected a file that exists; got path='missing.tflite'."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message, identity):
    with refused(error, f"evaluate_tflite: {message}"):
        evaluate_tflite(**{"path": identity, "data": (SCORES, np.zeros(4)), **arguments})


@pytest.mark.parametrize("content", [b"", b"text that is no model", "half"])
def test_a_file_that_is_no_model_is_refused(content, identity, tmp_path):
    whole = identity.read_bytes()
    (tmp_path / "model.tflite").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with refused(ValueError, "predict_tflite: expected a .tflite file that LiteRT can run; got path="):
        predict_tflite(tmp_path / "model.tflite", SCORES)


def test_a_missing_litert_names_the_extra(identity, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    message = r'evaluate_tflite: expected ai-edge-litert to be installed.*pip install "keras-kicks\[compression\]"'
    with pytest.raises(ImportError, match=message):
        evaluate_tflite(identity, (SCORES, np.zeros(4)))
