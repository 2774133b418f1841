"""Monte-Carlo predictions: moments in closed form, what draws and what does not, and a model that stays as it was."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_kicks.layers import DropConnect, RReLU, VectorNoise
from keras_kicks.models import Bagging, MonteCarloPrediction, monte_carlo_predict

RATE, SAMPLES = 0.3, 3000


def rows(n=4, features=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, features)).astype("float32")


def linear(*before, units=1):
    """Return a linear model of five features with layers before it, and its kernel."""
    model = keras.Sequential([keras.Input((5,)), *before, layers.Dense(units, use_bias=False)])
    return model, np.array(ops.convert_to_numpy(model.layers[-1].kernel), "float64")


def expect_moments(found, mean, variance):
    """Mean and variance of the samples lie within 5 standard errors of the closed form (12 kurtosis units at most)."""
    assert np.all(np.abs(found.mean - mean) < 5 * np.sqrt(variance / SAMPLES) + 1e-6)
    np.testing.assert_allclose(found.standard_deviation**2, variance, rtol=5 * np.sqrt(12 / SAMPLES), atol=1e-9)


@pytest.mark.parametrize("at_once", [None, 1, 700])
def test_dropout_has_its_moments_and_rows_of_their_own(at_once):
    model, w = linear(layers.Dropout(RATE))
    x = rows()
    found = monte_carlo_predict(model, x, SAMPLES, samples_at_once=at_once, keep_samples=True, seed=1)
    # Srivastava et al. 2014, section 9.1: what multiplies each feature has mean 1 and variance p / (1 - p).
    expect_moments(found, x @ w, RATE / (1 - RATE) * x**2 @ w**2)
    assert found.samples.shape == (SAMPLES, 4, 1)
    between_rows = np.corrcoef(found.samples[..., 0].T)
    assert np.all(np.abs(between_rows - np.eye(4)) < 5 / np.sqrt(SAMPLES))
    following = [np.corrcoef(found.samples[:-1, row, 0], found.samples[1:, row, 0])[0, 1] for row in range(4)]
    assert np.all(np.abs(following) < 5 / np.sqrt(SAMPLES))


def test_dropconnect_draws_anew_for_each_sample_and_once_for_all_rows():
    """The covariance of two rows with the same dropped weights is p / (1 - p) sum_j x_j x'_j w_j^2."""
    model = keras.Sequential([keras.Input((5,)), DropConnect(layers.Dense(1, use_bias=False), RATE)])
    w = np.array(ops.convert_to_numpy(model.layers[0].layer.kernel), "float64")
    x = rows()
    found = monte_carlo_predict(model, x, SAMPLES, keep_samples=True, seed=1)
    covariance = RATE / (1 - RATE) * (x * w.T**2) @ x.T
    got = np.cov(found.samples[..., 0].T)
    np.testing.assert_allclose(got, covariance, atol=5 * np.sqrt(12 / SAMPLES) * np.abs(covariance).max())
    assert np.all(np.abs(found.mean[:, 0] - (x @ w)[:, 0]) < 5 * np.sqrt(np.diag(covariance) / SAMPLES))


def test_dropconnect_with_a_mask_for_each_row_has_independent_rows():
    layer = DropConnect(layers.Dense(1, use_bias=False), RATE, mask="sample")
    model, x = keras.Sequential([keras.Input((5,)), layer]), rows()
    w = ops.convert_to_numpy(layer.layer.kernel)
    found = monte_carlo_predict(model, x, SAMPLES, keep_samples=True, seed=1)
    expect_moments(found, x @ w, RATE / (1 - RATE) * x**2 @ w**2)
    assert np.all(np.abs(np.corrcoef(found.samples[..., 0].T) - np.eye(4)) < 5 / np.sqrt(SAMPLES))


def test_rrelu_has_the_moments_of_its_slopes():
    model, w = linear(RReLU(0.1, 0.7))
    x = rows()
    found = monte_carlo_predict(model, x, SAMPLES, seed=1)
    negative = np.minimum(x, 0)
    expect_moments(found, (np.maximum(x, 0) + 0.4 * negative) @ w, 0.6**2 / 12 * negative**2 @ w**2)


def test_normalization_stays_in_inference_mode():
    model, w = linear(layers.BatchNormalization(), layers.Dropout(RATE), layers.BatchNormalization(), units=2)
    rng = np.random.default_rng(1)
    first, second = model.layers[0], model.layers[2]
    weights = [[rng.uniform(0.5, 2, 5) for _ in range(4)] for _ in range(2)]
    first.set_weights(weights[0])
    second.set_weights(weights[1])
    x = rows()
    found = monte_carlo_predict(model, x, SAMPLES, seed=1)

    def slope_and_shift(gamma, beta, mean, variance):
        slope = gamma / np.sqrt(variance + 1e-3)
        return slope, beta - slope * mean

    (a, b), (c, d) = (slope_and_shift(*part) for part in weights)
    normalized = a * x + b
    expect_moments(found, (c * normalized + d) @ w, RATE / (1 - RATE) * (c * normalized) ** 2 @ w**2)


def several():
    """Return a model of two inputs and two outputs, one of which nothing random reaches."""
    a, b = keras.Input((5,), name="a"), keras.Input((3,), name="b")
    hidden = layers.Dense(4, "tanh")(a)
    other = layers.Dense(4)(b)
    dropped = layers.Dropout(RATE)(hidden)
    outputs = {"x": layers.Dense(2)(layers.Add()([dropped, other])), "y": layers.Dense(1)(other)}
    return keras.Model({"a": a, "b": b}, outputs), {"a": rows(), "b": rows(features=3)}


def nested():
    """Return a model whose random layer is within another model."""
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(6, "relu"), layers.Dropout(RATE), layers.Dense(4)])
    x = keras.Input((5,))
    return keras.Model(x, layers.Dense(2)(inner(ops.tanh(x)))), rows()


class Subclassed(keras.Model):
    """A model without a graph."""

    def __init__(self):
        super().__init__()
        self.hidden, self.drop, self.last = layers.Dense(6), layers.Dropout(RATE), layers.Dense(2)

    def call(self, x, training=None):
        return {"z": self.last(self.drop(ops.relu(self.hidden(x)), training=training))}


def subclassed():
    model = Subclassed()
    model(rows())
    return model, rows()


def padded():
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 4], [2, 0, 0, 0]], "int32")
    steps = [layers.Embedding(5, 4, mask_zero=True), layers.Dropout(RATE), layers.GlobalAveragePooling1D()]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *steps]), x


class Pooled(layers.Layer):
    """Takes the mask from the tensor it is called with."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True
        self.drop, self.pool = layers.Dropout(RATE), layers.GlobalAveragePooling1D()

    def call(self, x, training=None):
        return self.pool(self.drop(x, training=training))


def masked_by_tensor():
    _, x = padded()
    embedding = layers.Embedding(5, 4, mask_zero=True)
    return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, Pooled()]), x


def recurrent():
    cells = layers.LSTM(4, dropout=RATE, recurrent_dropout=RATE, return_sequences=True)
    steps = [layers.Masking(), cells, layers.Bidirectional(layers.GRU(3, dropout=RATE))]
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    x[0, 2:] = 0
    return keras.Sequential([keras.Input((None, 5)), *steps]), x


def attention():
    x = keras.Input((4, 5))
    return keras.Model(x, layers.MultiHeadAttention(2, 3, dropout=RATE)(x, x)), np.stack([rows(), rows(seed=1)])


MODELS = [several, nested, subclassed, padded, masked_by_tensor, recurrent, attention]


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_moments_are_those_of_calls_in_training_mode(make):
    """None of these models normalizes batches: what they return in training mode is what is to be sampled."""
    model, x = make()
    copies = keras.tree.map_structure(lambda part: np.concatenate([part] * SAMPLES), x)
    found = monte_carlo_predict(model, x, SAMPLES, batch_size=2, seed=1)
    drawn = keras.tree.flatten(model(copies, training=True))
    drawn = [ops.convert_to_numpy(part) for part in drawn]
    count = len(keras.tree.flatten(x)[0])
    pairs = zip(drawn, *(keras.tree.flatten(part) for part in (found.mean, found.standard_deviation)), strict=True)
    varied = []
    for part, mean, deviation in pairs:
        part = part.reshape(SAMPLES, count, *part.shape[1:]).astype("float64")
        spread = part.std(axis=0)
        assert mean.shape == deviation.shape == part.shape[1:]
        assert np.all(np.abs(mean - part.mean(axis=0)) <= 5 * spread * np.sqrt(2 / SAMPLES) + 1e-5)
        np.testing.assert_allclose(deviation, spread, rtol=5 * np.sqrt(8 / SAMPLES), atol=1e-5)
        varied.append(spread.max() > 1e-3)
    keras.tree.assert_same_structure(found.mean, model(x) if not isinstance(x, dict) else {"x": 0, "y": 0})
    assert any(varied)


def test_an_output_that_nothing_random_reaches_has_no_spread():
    model, x = several()
    found = monte_carlo_predict(model, x, 50)
    assert np.all(found.standard_deviation["y"] == 0)
    np.testing.assert_allclose(found.mean["y"], model.predict(x, verbose=0)["y"], rtol=1e-6)


class Counting(layers.Layer):
    """Writes down how many rows it is called with."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def call(self, x):
        self.write(x.shape[0])
        return x


def test_what_is_before_the_first_draw_is_computed_once():
    before, behind = [], []
    model, _ = linear(Counting(before.append), layers.Dropout(RATE), Counting(behind.append))
    model.compile(run_eagerly=True)
    before.clear()
    behind.clear()
    monte_carlo_predict(model, rows(), 10)
    assert [n for n in before if n] == [4]
    assert [n for n in behind if n] == [40]


class Frozen(keras.Model):
    """A model one of whose parts is always in inference mode."""

    def __init__(self):
        super().__init__()
        self.frozen = keras.Sequential([keras.Input((5,)), layers.Dropout(0.5), layers.Dense(5, use_bias=False)])
        self.drop, self.last = layers.Dropout(RATE), layers.Dense(1, use_bias=False)

    def call(self, x, training=None):
        return self.last(self.drop(self.frozen(x, training=False), training=training))


def test_frozen_parts_draw_no_more_than_in_training():
    model, x = Frozen(), rows()
    model(x)
    hidden = x @ ops.convert_to_numpy(model.frozen.layers[-1].kernel)
    w = ops.convert_to_numpy(model.last.kernel)
    found = monte_carlo_predict(model, x, SAMPLES, seed=1)
    expect_moments(found, hidden @ w, RATE / (1 - RATE) * hidden**2 @ w**2)


def test_a_noise_shape_that_rows_share_is_kept():
    model, _ = linear(layers.Dropout(RATE, noise_shape=(1, 5)))
    x = np.repeat(rows(1), 4, axis=0)
    samples = monte_carlo_predict(model, x, 40, keep_samples=True, seed=1).samples[..., 0]
    np.testing.assert_allclose(samples, np.repeat(samples[:, :1], 4, axis=1), rtol=1e-5)
    assert len(np.unique(samples[:, 0].round(5))) > 5


def test_chosen_layers_alone_draw():
    noise, drop = VectorNoise(0.5, name="noise"), layers.Dropout(RATE)
    model, w = linear(noise, drop)
    x = rows()
    for chosen in ([noise], ["noise"], [VectorNoise], "noise"):
        found = monte_carlo_predict(model, x, SAMPLES, layers=chosen, seed=1)
        expect_moments(found, x @ w, 0.25 * (w**2).sum() * np.ones((4, 1)))
    found = monte_carlo_predict(model, x, SAMPLES, seed=1)
    expect_moments(found, x @ w, RATE / (1 - RATE) * x**2 @ w**2)


def test_the_model_is_as_it_was():
    model, _ = linear(layers.BatchNormalization(), layers.Dropout(RATE, seed=3))
    model.compile("sgd", "mse")
    before = [np.array(ops.convert_to_numpy(v)) for v in (*model.variables, *model.metrics_variables)]
    monte_carlo_predict(model, rows(), 5)
    with pytest.raises(Exception, match="shape"):
        monte_carlo_predict(model, rows(features=3), 5)
    after = [np.array(ops.convert_to_numpy(v)) for v in (*model.variables, *model.metrics_variables)]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all("call" not in vars(layer) for layer in model.layers)
    # The statistics of the batch again: training mode is back.
    y = ops.convert_to_numpy(model.layers[0](rows() + 10, training=True))
    assert np.abs(y.mean()) < 0.1


def test_seeds():
    model, _ = linear(layers.Dropout(RATE, seed=3), layers.Dropout(RATE, seed=3))
    x = rows()

    def deviation(**arguments):
        return monte_carlo_predict(model, x, 20, **arguments).standard_deviation

    np.testing.assert_array_equal(deviation(seed=1), deviation(seed=1))
    assert np.any(deviation(seed=1) != deviation(seed=2))
    assert np.any(deviation() != deviation())
    values = []
    for _ in range(2):
        keras.utils.set_random_seed(8)
        values.append(deviation())
    np.testing.assert_array_equal(*values)


def entropy(p):
    p = np.asarray(p, "float64")
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)


@pytest.mark.parametrize("units", [1, 3])
def test_entropies_are_those_of_the_samples(units):
    model, _ = linear(layers.Dropout(RATE), units=units)
    x = 3 * rows()
    logits = monte_carlo_predict(model, x, 25, keep_samples=True, seed=1).samples.astype("float64")
    found = monte_carlo_predict(model, x, 25, keep_samples=True, classes="logits", seed=1)
    p = 1 / (1 + np.exp(-logits)) if units == 1 else np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.samples, p, rtol=1e-4)
    np.testing.assert_allclose(found.mean, p.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.standard_deviation, p.std(axis=0, ddof=1), rtol=1e-3, atol=1e-6)
    p = np.concatenate([p, 1 - p], axis=-1) if units == 1 else p
    np.testing.assert_allclose(found.predictive_entropy, entropy(p.mean(axis=0)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.expected_entropy, entropy(p).mean(axis=0), rtol=1e-4, atol=1e-6)
    information = entropy(p.mean(axis=0)) - entropy(p).mean(axis=0)
    np.testing.assert_allclose(found.mutual_information, information, rtol=1e-3, atol=1e-5)
    assert found.mutual_information.shape == (4,)


def test_certain_probabilities_have_no_entropy():
    # An output of 1 whatever is dropped.
    model = keras.Sequential([keras.Input((3,)), layers.Dropout(RATE), layers.Dense(3, bias_initializer="ones")])
    model.layers[-1].set_weights([np.zeros((3, 3)), np.array([0, 1, 0])])
    found = monte_carlo_predict(model, rows(2, 3), 4, classes="probabilities")
    assert np.all(found.predictive_entropy == 0)
    assert np.all(found.mutual_information == 0)
    assert MonteCarloPrediction(0, 0).mutual_information is None


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_dtypes(policy):
    if policy == "float64" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras computes in float64 throughout on TensorFlow alone.")
    keras.config.set_dtype_policy(policy)
    model, w = linear(layers.Dropout(RATE))
    keras.config.set_dtype_policy("float32")
    x = rows()
    found = monte_carlo_predict(model, x, SAMPLES, seed=1)
    assert found.mean.dtype == found.standard_deviation.dtype == ("float64" if policy == "float64" else "float32")
    variance = RATE / (1 - RATE) * x**2 @ w**2
    assert np.all(np.abs(found.mean - x @ w) < 5 * np.sqrt(variance / SAMPLES) + 0.02)
    np.testing.assert_allclose(found.standard_deviation, np.sqrt(variance), rtol=0.15)


@pytest.mark.tensorflow
@pytest.mark.parametrize("arguments", [{"jit_compile": True}, {"run_eagerly": True}])
@pytest.mark.parametrize("at_once", [None, 1000])
def test_compiled_and_eager_models(arguments, at_once):
    model, w = linear(layers.Dropout(RATE))
    model.compile(**arguments)
    x = rows(3)
    found = monte_carlo_predict(model, x, SAMPLES, batch_size=2, samples_at_once=at_once, seed=1)
    expect_moments(found, x @ w, RATE / (1 - RATE) * x**2 @ w**2)


@pytest.mark.tensorflow
def test_data_sets_and_generators():
    import tensorflow as tf

    model, _ = linear(layers.Dropout(RATE))
    x = rows(7)
    expected = monte_carlo_predict(model, x, 20, batch_size=2, seed=1).mean
    labelled = tf.data.Dataset.from_tensor_slices((x, np.zeros(7))).batch(2)
    np.testing.assert_array_equal(monte_carlo_predict(model, labelled, 20, seed=1).mean, expected)
    batches = ((x[i : i + 2],) for i in range(0, 7, 2))
    np.testing.assert_array_equal(monte_carlo_predict(model, batches, 20, steps=4, seed=1).mean, expected)
    endless = monte_carlo_predict(model, labelled.repeat(), 20, steps=2, seed=1).mean
    np.testing.assert_array_equal(endless, expected[:4])


@pytest.mark.tensorflow
def test_replicas(strategy):
    with strategy.scope():
        model, w = linear(layers.Dropout(RATE))
    x = rows(6)
    found = monte_carlo_predict(model, x, SAMPLES, batch_size=4, seed=1)
    expect_moments(found, x @ w, RATE / (1 - RATE) * x**2 @ w**2)


@pytest.mark.tensorflow
def test_a_fixed_batch_size_is_kept():
    model = keras.Sequential([keras.Input(batch_shape=(4, 5)), layers.Dropout(RATE), layers.Dense(1, use_bias=False)])
    w, x = ops.convert_to_numpy(model.layers[-1].kernel), rows()
    found = monte_carlo_predict(model, x, SAMPLES, batch_size=4, seed=1)
    expect_moments(found, x @ w, RATE / (1 - RATE) * x**2 @ w**2)


def plain():
    return linear()[0]


def stateful():
    return keras.Sequential([keras.Input(batch_shape=(2, 3, 5)), layers.GRU(2, dropout=0.1, stateful=True)])


def bagged():
    return Bagging(lambda: linear(layers.Dropout(RATE))[0], 2)


DROPPED = [
    ({"samples": 1}, ValueError, "expected samples >= 2; got samples=1."),
    ({"samples": 2.5}, TypeError, "expected an integer for samples; got samples=2.5."),
    ({"batch_size": 0}, ValueError, "expected batch_size >= 1; got batch_size=0."),
    ({"samples_at_once": 0}, ValueError, "expected samples_at_once >= 1; got samples_at_once=0."),
    ({"classes": "softmax"}, ValueError, "expected classes to be one of None, 'probabilities', 'logits'"),
    ({"seed": "a"}, TypeError, "expected an integer for seed; got seed='a'."),
    ({"layers": ["other"]}, ValueError, "expected layers of the model, their names or their classes; got layers='oth"),
    ({"layers": [3]}, TypeError, "expected layers of the model, their names or their classes; got layers=3."),
    (
        {"layers": [layers.InputLayer]},
        ValueError,
        "expected layers whose call has the argument training; got layers=<cla",
    ),
    ({"x": np.zeros((0, 4))}, ValueError, "expected at least one row; got rows=0."),
    ({"layers": []}, ValueError, "expected at least one layer that draws; got layers=[]."),
]


@pytest.mark.parametrize(("arguments", "error", "message"), DROPPED)
def test_wrong_arguments_are_refused(arguments, error, message):
    model, _ = linear(layers.Dropout(RATE))
    with pytest.raises(error, match=re.escape(f"monte_carlo_predict: {message}")):
        monte_carlo_predict(**{"model": model, "x": rows(), **arguments})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (plain, ValueError, "expected a model with layers that draw in training; got model='sequential"),
        (lambda: linear(layers.Dropout(0))[0], ValueError, "Add Dropout, DropConnect or RReLU, or name those of your"),
        (Subclassed, ValueError, "expected a built model; got model='subclassed"),
        (bagged, ValueError, "predict_members has the spread of its members, and members() are models that may draw."),
        (stateful, ValueError, "expected a model without stateful recurrent layers; got stateful=['gru"),
        (lambda: layers.Dropout(0.5), TypeError, "expected a keras model; got model=<Dropout"),
    ],
)
def test_models_that_cannot_be_sampled_are_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        monte_carlo_predict(make(), rows())
