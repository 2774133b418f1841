"""The decomposition of the squared loss of Keras models: what is trained, how often it is traced, closed forms."""

import random

import keras
import numpy as np
import pytest
from diagnostics.linear_estimators import FixedDesign
from keras import layers

import keras_kicks as kk
from keras_kicks.diagnostics import bias_variance

X_TEST = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], "float32")


def linear(rate=0.1, kernel="zeros", **arguments):
    net = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False, kernel_initializer=kernel)])
    net.compile(keras.optimizers.SGD(rate), "mse", **arguments)
    return net


def make_data(seed, samples=12):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 2)).astype("float32")
    return x, x.sum(axis=1, keepdims=True) + rng.normal(size=(samples, 1)).astype("float32")


def test_what_an_estimator_draws_in_fit_is_its_initialization():
    """scikit-learn's draw their weights there, from NumPy's state, and KerasRegressor from Python's."""

    class Drawn:
        def fit(self, x, y):
            self.value = np.random.normal() + random.gauss(0, 1)

        def predict(self, x):
            return np.full(len(x), self.value)

    sizes = {"data_sets": 30, "initializations": 4, "orders": 2}
    found, again = (bias_variance(Drawn, make_data, X_TEST, np.zeros(3), **sizes) for _ in range(2))
    assert found["initialization"].value == again["initialization"].value
    assert abs(found["initialization"].value - 2) < 4 * found["initialization"].standard_error
    assert found["order"].value == pytest.approx(0, abs=1e-12)


def test_untrained_models_vary_by_their_weights_alone():
    """w ~ N(0, s^2) for each weight: Var(w . x) = s^2 |x|^2."""

    def build_fn():
        return linear(kernel=keras.initializers.RandomNormal(stddev=0.5))

    sizes = {"data_sets": 30, "initializations": 4, "orders": 2, "epochs": 0}
    found = bias_variance(build_fn, make_data, X_TEST, np.zeros(3), **sizes)
    expected = 0.25 * np.square(X_TEST).sum(axis=1).mean()
    assert abs(found["initialization"].value - expected) < 4 * found["initialization"].standard_error
    assert found["initialization"].standard_error < 0.3 * expected
    assert abs(found["data"].value) < 4 * found["data"].standard_error
    assert (found["order"].value, found["order"].standard_error) == (0.0, 0.0)


def test_the_order_of_two_samples():
    """One step for each of two samples: w ends at one of two places, each as often."""
    x, y, rate = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0], [-1.0]]), 0.1
    ends = []
    for order in ([0, 1], [1, 0]):
        w = np.zeros(2)
        for i in order:
            w -= rate * 2 * (x[i] @ w - y[i, 0]) * x[i]
        ends.append(X_TEST @ w)
    mean, variance = np.mean(ends, axis=0), np.var(ends, axis=0)
    sizes = {"bootstrap": False, "initializations": 20, "orders": 4, "batch_size": 1}
    found = bias_variance(linear, (x, y), X_TEST, mean, **sizes)
    assert list(found.parts) == ["bias^2", "variance", "initialization", "order", "loss"]
    assert abs(found["order"].value - variance.mean()) < 4 * found["order"].standard_error
    assert 0 < found["order"].standard_error < 0.2 * variance.mean()
    assert abs(found["initialization"].value) < 4 * found["initialization"].standard_error
    assert abs(found["bias^2"].value) < 4 * found["bias^2"].standard_error
    for prediction in found.predictions[0].reshape(-1, 3):
        assert min(np.abs(prediction - end).max() for end in ends) < 1e-6


def test_ridge_regression_trained_by_descent():
    design, weight = FixedDesign(), 10.0
    samples, rate = len(design.x), 0.25
    bias, variance = design.ridge(weight)

    def build_fn():
        penalty = kk.regularizers.Ridge(weight / samples, squared=True)
        net = keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False, kernel_regularizer=penalty)])
        net.compile(keras.optimizers.SGD(rate), "mse")
        return net

    sizes = {"data_sets": 40, "initializations": 1, "orders": 1, "epochs": 40, "batch_size": samples}
    found = bias_variance(build_fn, design.make_data, design.x_test, design.target, noise=design.noise, **sizes)
    truth = {"bias^2": np.mean(bias**2), "variance": variance.mean()}
    truth["loss"] = sum(truth.values()) + design.noise
    for name, value in truth.items():
        assert abs(found[name].value - value) < 4 * found[name].standard_error, name
        assert found[name].standard_error < value / 2
    # And each model is where its data send it.
    w = np.linalg.solve(design.x.T @ design.x + weight * np.eye(4), design.x.T)
    targets = np.linalg.pinv(design.x_test @ w) @ found.predictions.reshape(40, -1).T
    np.testing.assert_allclose(design.x_test @ w @ targets, found.predictions.reshape(40, -1).T, atol=1e-4)


def stateful(optimizer):
    """A model with every kind of state: slots, statistics, seeds, and a learning rate that changes."""
    parts = [layers.Dense(4, "tanh"), layers.BatchNormalization(), layers.Dropout(0.3, seed=1), layers.Dense(1)]
    net = keras.Sequential([keras.Input((2,)), *parts])
    net.compile(optimizer(), "mse")
    return net


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
        pytest.param(
            lambda: kk.optimizers.GradientClipping(kk.optimizers.Momentum(0.05), limit=1.0), marks=pytest.mark.slow
        ),
    ],
    ids=["adam", "wrapped"],
)
def test_one_model_for_all_is_as_a_new_one_for_each(optimizer):
    sizes = {"data_sets": 2, "initializations": 1, "orders": 2, "epochs": 2, "batch_size": 5}
    one, many = (
        bias_variance(lambda: stateful(optimizer), make_data, X_TEST, np.zeros(3), reuse=reuse, **sizes)
        for reuse in (True, False)
    )
    np.testing.assert_allclose(one.predictions, many.predictions, rtol=1e-5, atol=1e-6)
    assert len(np.unique(one.predictions.round(4)[..., 0, 0])) == 4


def test_it_is_traced_once():
    """The loss is called when the step is traced, and by nothing else."""
    calls = []

    def loss(y, prediction):
        calls.append(keras.backend.backend())
        return keras.ops.mean(keras.ops.square(y - prediction), axis=-1)

    def build_fn():
        net = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
        net.compile("adam", loss)
        return net

    counts = []
    for data_sets in (2, 6):
        calls.clear()
        sizes = {"data_sets": data_sets, "initializations": 2, "orders": 2, "epochs": 2, "batch_size": 5}
        bias_variance(build_fn, make_data, X_TEST, np.zeros(3), **sizes)
        counts.append(len(calls))
    if keras.backend.backend() == "torch":
        assert counts[1] - counts[0] == 4 * 2 * 2 * 2 * 3  # Nothing is traced there: 2 epochs of 5, 5 and 2 samples.
    else:
        assert counts[0] == counts[1] < 12


def test_lazy_models_seeds_and_sample_weights():
    """A model without inputs is built on the data; `build_fn` may take the seed; a weight of 0 leaves a sample out."""
    seeds, trained = [], []

    def build_fn(seed):
        seeds.append(seed)
        net = keras.Sequential([layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        net.compile(keras.optimizers.SGD(0.1), "mse")
        return net

    def weighted(seed):
        x, y = make_data(seed)
        y[::2] = 1e6
        trained.append((x, y))
        return x, y, np.tile([0.0, 1.0], 6)

    sizes = {"data_sets": 2, "initializations": 1, "orders": 1, "epochs": 1, "batch_size": 12}
    found = bias_variance(build_fn, weighted, X_TEST, np.zeros(3), **sizes)
    assert len(set(seeds)) == 2
    for (x, y), prediction in zip(trained, found.predictions.reshape(2, 3), strict=True):
        # The mean over all samples, from w = 0.
        w = 0.1 * 2 * (x[1::2].T @ y[1::2])[:, 0] / 12
        np.testing.assert_allclose(prediction, X_TEST @ w, rtol=1e-4)


def test_draws_of_others_go_on():
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    sizes = {"data_sets": 2, "initializations": 1, "orders": 1}
    bias_variance(lambda: linear(kernel="glorot_uniform"), make_data, X_TEST, np.zeros(3), **sizes)
    assert (random.random(), np.random.random()) == expected


@pytest.mark.slow
@pytest.mark.tensorflow
def test_replicas_take_their_part_of_each_batch(strategy):
    def build_fn():
        with strategy.scope():
            return linear(kernel=keras.initializers.GlorotUniform())

    sizes = {"data_sets": 2, "initializations": 1, "orders": 1, "epochs": 1, "batch_size": 4}
    expected = bias_variance(lambda: linear(kernel="glorot_uniform"), make_data, X_TEST, np.zeros(3), **sizes)
    found = bias_variance(build_fn, make_data, X_TEST, np.zeros(3), **sizes)
    np.testing.assert_allclose(found.predictions, expected.predictions, rtol=1e-4, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("arguments", [{"steps_per_execution": 3}, {"run_eagerly": True}, {"jit_compile": True}])
def test_ways_to_compile(arguments):
    sizes = {"data_sets": 2, "initializations": 1, "orders": 2, "epochs": 3, "batch_size": 5}
    expected = bias_variance(linear, make_data, X_TEST, np.zeros(3), **sizes)
    found = bias_variance(lambda: linear(**arguments), make_data, X_TEST, np.zeros(3), **sizes)
    np.testing.assert_allclose(found.predictions, expected.predictions, rtol=1e-5, atol=1e-6)


def test_mixed_precision_keeps_the_scale_of_the_loss_and_starts_it_anew():
    keras.config.set_dtype_policy("mixed_float16")
    sizes = {"data_sets": 2, "initializations": 1, "orders": 2, "epochs": 3, "batch_size": 5}
    one, many = (
        bias_variance(lambda: linear(0.05), make_data, X_TEST, np.zeros(3), reuse=reuse, **sizes)
        for reuse in (True, False)
    )
    np.testing.assert_allclose(one.predictions, many.predictions, rtol=1e-3)
    assert np.abs(one.predictions).max() > 0.1


def test_ones_own_training():
    """Early stopping, callbacks, a validation part: what `fit` is given."""
    lengths = []

    def fit(model, x, y, seed):
        keras.utils.set_random_seed(seed)
        history = model.fit(x[:8], y[:8], validation_data=(x[8:], y[8:]), epochs=4, verbose=0)
        lengths.append(len(history.history["val_loss"]))

    sizes = {"data_sets": 2, "initializations": 1, "orders": 2}
    found = bias_variance(linear, make_data, X_TEST, y_test=np.zeros((3, 1)), fit=fit, **sizes)
    assert lengths == [4] * 4
    assert list(found.parts) == ["bias^2 + noise", "variance", "data and initialization", "order", "loss"]


AVERAGING = {
    "use_ema": lambda: keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9),
    "StochasticWeightAveraging": lambda: kk.optimizers.StochasticWeightAveraging(keras.optimizers.SGD(0.05), start=1),
}


@pytest.mark.parametrize("optimizer", AVERAGING.values(), ids=AVERAGING)
def test_training_ends_with_averaged_weights(optimizer):
    """As `fit` ends, in a graph and without."""

    def run(fit=None, **arguments):
        def build_fn():
            net = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
            net.compile(optimizer(), "mse", **arguments)
            return net

        sizes = {"data_sets": 2, "initializations": 1, "orders": 1, "epochs": 4, "batch_size": 12}
        return bias_variance(build_fn, make_data, X_TEST, np.zeros(3), fit=fit, **sizes)["loss"].value

    expected = run(lambda net, x, y, seed: net.fit(x, y, batch_size=12, epochs=4, verbose=0))
    assert run() == pytest.approx(expected, rel=1e-4)
    assert run(run_eagerly=True) == pytest.approx(expected, rel=1e-4)


def test_any_integer_is_a_seed():
    sizes = {"data_sets": 2, "initializations": 1, "orders": 1, "epochs": 0}
    found = [
        bias_variance(lambda: linear(kernel="normal"), make_data, X_TEST, np.zeros(3), seed=seed, **sizes).predictions
        for seed in (-1, -1, -2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0
