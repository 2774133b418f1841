"""Gradient boosting against scikit-learn's on the same stumps, AdaBoost.R2 against scikit-learn's and the paper."""

import itertools

import keras
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import make_friedman1
from sklearn.ensemble import AdaBoostRegressor, GradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from keras_kicks.models import Boosting, DecisionStump
from keras_kicks.models.boosting.gradient import weighted_quantile


def friedman(samples=200, seed=0):
    x, y = make_friedman1(samples, noise=1.0, random_state=seed)
    return x.astype("float32"), y


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_boosting_is_that_of_scikit_learn(weighted):
    (x, y), test = friedman(), friedman(300, 1)
    weights = np.random.default_rng(2).exponential(size=len(y)) if weighted else None
    ours = Boosting(DecisionStump, 40, "gradient", learning_rate=0.3, seed=0)
    history = ours.fit(x, y, sample_weight=weights, validation_data=test, verbose=0).history
    theirs = GradientBoostingRegressor(n_estimators=40, max_depth=1, learning_rate=0.3)
    theirs.fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(history["error"], theirs.train_score_, rtol=1e-5)
    np.testing.assert_allclose(ours.estimator_weights, np.full(40, 0.3), rtol=1e-5)  # the step of a stump is 1
    for k, (a, b) in enumerate(zip(ours.staged_predict(test[0]), theirs.staged_predict(test[0]), strict=True)):
        np.testing.assert_allclose(a[:, 0], b, rtol=0, atol=1e-5)
        assert history["val_error"][k] == pytest.approx(np.mean((b - test[1]) ** 2), rel=1e-5)
    np.testing.assert_allclose(ours.predict(test[0], verbose=0)[:, 0], b, rtol=0, atol=1e-5)


def algorithm(x, y, w, loss, share, rounds, rate):
    """Algorithm 1 of Friedman 2001 with scikit-learn's stumps; the steps by minimization."""

    def weighted_median(v, w):
        """The least weighted sum of distances is at one of the values, or between two."""
        sums = np.abs(v[:, None] - v[None]) @ w
        return v[sums <= sums.min() * (1 + 1e-12)].mean()

    total = np.full(len(y), weighted_median(y, w))
    for _ in range(rounds):
        r = y - total
        delta = weighted_quantile(np.abs(r), w, share)

        def value(r, delta=delta):
            if loss == "absolute_error":
                return np.abs(r)
            return np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2))

        target = np.sign(r) if loss == "absolute_error" else np.clip(r, -delta, delta)
        h = DecisionTreeRegressor(max_depth=1).fit(x, target, sample_weight=w).predict(x)
        if loss == "absolute_error":
            step = weighted_median(r / h, w * np.abs(h))
        else:
            step = minimize_scalar(lambda s, r=r, h=h: w @ value(r - s * h), bracket=(0, 1), tol=1e-12).x
        total = total + rate * step * h
        yield total, np.average(value(y - total), weights=w), rate * step


@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_other_losses_are_the_algorithm_of_the_paper(loss):
    (x, y), weights = friedman(101), np.random.default_rng(2).exponential(size=101)
    y[::10] += 20  # outliers
    ours = Boosting(DecisionStump, 12, "gradient", boosting_loss=loss, learning_rate=0.5, huber_quantile=0.8, seed=0)
    history = ours.fit(x, y, sample_weight=weights, verbose=0).history
    expected = algorithm(x, y, weights, loss, 0.8, 12, 0.5)
    for m, (staged, (total, error, weight)) in enumerate(zip(ours.staged_predict(x), expected, strict=True)):
        np.testing.assert_allclose(staged[:, 0], total, rtol=0, atol=2e-4)
        assert history["error"][m] == pytest.approx(error, rel=1e-4)
        assert history["estimator_weight"][m] == pytest.approx(weight, rel=1e-3)


def test_the_quantile_has_its_share_on_each_side():
    values, weights = np.array([3.0, 1.0, 2.0, 10.0]), np.array([1.0, 1.0, 1.0, 1.0])
    assert weighted_quantile(values, weights) == 2.5
    assert weighted_quantile(values, np.array([1.0, 1.0, 1.0, 4.0])) == 10.0
    assert weighted_quantile(values[:3], weights[:3]) == 2.0
    assert weighted_quantile(values, weights, 0.9) == 10.0


def test_subsampling_draws_without_replacement_and_steps_on_what_was_drawn():
    seen = []

    class Watched(DecisionStump):
        def fit(self, x, y, sample_weight=None):
            seen.append(x[:, 0])
            return super().fit(x, y, sample_weight=sample_weight)

    x, y = friedman(200)
    ours = Boosting(Watched, 5, "gradient", learning_rate=0.5, subsample=0.4, seed=0)
    ours.fit(x, y, verbose=0)
    for drawn in seen:
        assert len(np.unique(drawn)) == len(drawn) == 80
        assert set(drawn) <= set(x[:, 0])
    assert not np.array_equal(seen[0], seen[1])
    # The step of an exact stump on the samples that it has seen is 1.
    np.testing.assert_allclose(ours.estimator_weights, np.full(5, 0.5), rtol=1e-5)


def test_a_network_whose_outputs_have_several_numbers():
    x, y = friedman(200)
    y = np.stack([y, -2 * y + 5, x[:, 0]], axis=1)

    def learner():
        return keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])

    ours = Boosting(learner, 6, "gradient", learning_rate=0.5, seed=0)
    ours.compile(keras.optimizers.Adam(0.02), "mse")
    history = ours.fit(x, y, epochs=5, verbose=0).history
    total, errors = np.repeat(y.mean(axis=0)[None], len(x), axis=0), []
    for output in keras.ops.convert_to_numpy(ours.members(x)).astype("float64"):
        r = y - total
        total = total + 0.5 * (r * output).sum() / (output**2).sum() * output
        errors.append(np.mean((y - total) ** 2))
    np.testing.assert_allclose(history["error"], errors, rtol=1e-5)
    np.testing.assert_allclose(ours.predict(x, verbose=0), total, rtol=0, atol=1e-3)
    assert ours.evaluate(x, y, verbose=0) == pytest.approx(errors[-1], rel=1e-4)
    assert errors[-1] < errors[0]


def test_nothing_is_left_to_find():
    x = np.arange(4.0)[:, None]
    ours = Boosting(DecisionStump, 5, "gradient", seed=0)
    ours.fit(x, np.array([1.0, 1.0, 3.0, 3.0]), verbose=0)
    assert ours.stop_reason == "no residuals are left"
    assert ours.predict(x, verbose=0)[:, 0].tolist() == [1.0, 1.0, 3.0, 3.0]
    same = Boosting(DecisionStump, 5, "gradient", seed=0)
    same.fit(x, np.full(4, 3.0), verbose=0)
    assert same.stop_reason == "no residuals are left"
    assert same.predict(x, verbose=0)[:, 0].tolist() == [3.0] * 4


def test_a_learner_that_says_nothing():
    ours = Boosting(lambda: OurNextAt(0), 5, "gradient", seed=0)
    OurNext.turn = iter(np.zeros((5, 2)))
    rule = "a first learner that is of use; got .*reason='no step along the learner makes the loss less'"
    with pytest.raises(ValueError, match=rule):
        ours.fit(friedman(20)[0], np.arange(20.0), verbose=0)


# Five functions that take no notice of what they are trained on: no random numbers are in them, so that the ensemble
# that resamples and the one that weighs are the same.
SLOPES = np.array([[4.0, 2.0], [1.0, 6.0], [5.0, 5.0], [0.5, 0.5], [6.0, 1.0]])


class TheirNext(RegressorMixin, BaseEstimator):
    """The next of the functions, as an estimator."""

    turn = None

    def fit(self, x, y):
        self.slope_ = next(TheirNext.turn)
        return self

    def predict(self, x):
        return x[:, :2] @ self.slope_


class OurNext(keras.Model):
    """The next of the functions, as a model."""

    turn = None

    def build(self, shape):
        self.slope = self.add_weight(shape=(2, 1))

    def call(self, x):
        return keras.ops.matmul(x[:, :2], self.slope)

    def compute_output_shape(self, shape):
        return (shape[0], 1)

    def fit(self, x, y, sample_weight=None):
        self.slope.assign(next(OurNext.turn)[:, None])


@pytest.mark.parametrize("rate", [1.0, 0.4])
@pytest.mark.parametrize("loss", ["linear", "square", "exponential"])
def test_r2_is_that_of_scikit_learn(loss, rate):
    (x, _), test = friedman(80), friedman(60, 1)[0]
    y = 5 * x[:, 0] + 4 * x[:, 1] + np.random.default_rng(0).normal(size=80)
    weights = np.random.default_rng(2).exponential(size=80)
    TheirNext.turn, OurNext.turn = iter(SLOPES), iter(SLOPES)
    theirs = AdaBoostRegressor(TheirNext(), n_estimators=5, learning_rate=rate, loss=loss, random_state=0)
    theirs.fit(x, y, sample_weight=weights)
    ours = Boosting(OurNext, 5, "r2", boosting_loss=loss, learning_rate=rate, seed=0)
    history = ours.fit(x, y, sample_weight=weights, validation_data=(test, np.zeros(60)), verbose=0).history
    count = len(theirs.estimators_)
    assert count >= 3
    np.testing.assert_allclose(ours.estimator_weights, theirs.estimator_weights_[:count], rtol=1e-5)
    np.testing.assert_allclose(ours.estimator_errors, theirs.estimator_errors_[:count], rtol=1e-5)
    both = itertools.zip_longest(ours.staged_predict(test), theirs.staged_predict(test))
    for m, (a, b) in enumerate(both):
        np.testing.assert_allclose(a[:, 0], b, rtol=1e-5)
        assert history["val_error"][m] == pytest.approx(np.mean(b**2), rel=1e-5)
    np.testing.assert_allclose(ours.predict(test, verbose=0)[:, 0], b, rtol=1e-5)


def test_r2_ends_where_a_learner_is_of_no_use():
    """All samples about as far away as can be: the mean loss is near 1."""
    OurNext.turn = iter(np.array([[4.0, 2.0], [100.0, 2.0], [4.0, 2.0]]))
    x = friedman(80)[0]
    x[:, 0] = 1
    y = x[:, :2] @ SLOPES[0] + 0.1 * np.random.default_rng(0).normal(size=80)
    ours = Boosting(OurNext, 3, "r2", seed=0)
    ours.fit(x, y, verbose=0)
    assert len(ours.estimator_weights) == 1
    assert ours.stop_reason.startswith("a mean loss of 0.")
    OurNext.turn = iter(SLOPES)
    perfect = Boosting(OurNext, 3, "r2", seed=0)
    perfect.fit(x, keras.ops.convert_to_numpy(OurNextAt(0)(x)), verbose=0)
    assert perfect.stop_reason == "the learner is perfect"
    assert perfect.estimator_weights.tolist() == [1.0]


def OurNextAt(place):
    model = OurNext()
    model.build((None, 5))
    model.slope.assign(SLOPES[place][:, None])
    return model


def test_r2_boosts_stumps():
    """By weights, and as Drucker does by drawing samples."""
    (x, y), test = friedman(400), friedman(1000, 1)
    for resample in (False, True):
        ours = Boosting(DecisionStump, 30, "r2", resample=resample, seed=0)
        errors = ours.fit(x, y, validation_data=test, verbose=0).history["val_error"]
        assert errors[-1] < 0.75 * errors[0]


def test_the_same_median_in_the_model_and_beside_it():
    """Also where the weights of half of the members are half of all."""
    OurNext.turn = iter(SLOPES[[0, 1, 2, 4]])
    x = friedman(80)[0]
    ours = Boosting(OurNext, 4, "r2", seed=0)
    ours.fit(x, 5 * x[:, 0] + 4 * x[:, 1] + np.random.default_rng(0).normal(size=80), verbose=0)
    ours.members.estimator_weights.assign([0.1] * 4)
    *_, staged = ours.staged_predict(x)
    outputs = np.sort(x[:, :2] @ SLOPES[[0, 1, 2, 4]].T, axis=1)
    np.testing.assert_allclose(staged[:, 0], outputs[:, 1], rtol=1e-5)  # the lower of the two in the middle
    np.testing.assert_allclose(ours.predict(x, verbose=0)[:, 0], outputs[:, 1], rtol=1e-5)


@pytest.mark.parametrize("eager", [False, True])
def test_the_width_of_float64(eager, tmp_path):
    """Labels that float32 cannot tell apart, also of an ensemble that is loaded under another policy."""
    x, y = friedman(40)
    keras.config.set_dtype_policy("float64")
    far = Boosting(DecisionStump, 20, "gradient", seed=0)
    far.compile("sgd", "mse", run_eagerly=eager)
    history = far.fit(x, y + 1.6e9, validation_data=(x, y + 1.6e9), verbose=0).history
    near = GradientBoostingRegressor(n_estimators=20, max_depth=1, learning_rate=1.0).fit(x, y)
    np.testing.assert_allclose(history["error"], near.train_score_, rtol=1e-4)
    np.testing.assert_allclose(history["val_error"], near.train_score_, rtol=1e-4)
    far.save(tmp_path / "boosting.keras")
    keras.config.set_dtype_policy("float32")
    for boosting in (far, keras.saving.load_model(tmp_path / "boosting.keras")):
        *_, last = boosting.staged_predict(x)
        for p in (last, boosting.predict(x, verbose=0)):
            np.testing.assert_allclose(p[:, 0] - 1.6e9, near.predict(x), rtol=0, atol=1e-5)
        boosting.n = 21
        boosting.fit(x, y + 1.6e9, verbose=0)
        assert len(boosting.estimator_weights) == 21


@pytest.mark.parametrize("algorithm", ["r2", "gradient"])
def test_networks_in_float64(algorithm):
    x, y = friedman(40)
    keras.config.set_dtype_policy("float64")
    boosting = Boosting(lambda: keras.Sequential([keras.layers.Dense(1)]), 3, algorithm, seed=0)
    boosting.compile(keras.optimizers.Adam(0.3), "mse", jit_compile=False)
    history = boosting.fit(x, y, epochs=40, verbose=0).history
    predicted = boosting.predict(x, verbose=0)
    assert predicted.dtype == "float64"
    assert np.mean((predicted[:, 0] - y) ** 2) == pytest.approx(history["error"][-1], rel=1e-12)
