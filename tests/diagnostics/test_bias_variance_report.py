"""What a decomposition of the squared loss shows, the U-curve, and what is refused."""

import re

import keras
import numpy as np
import pytest
from diagnostics.linear_estimators import Polynomial
from event_files import kinds, read
from keras import layers

from keras_kicks.diagnostics import BiasVarianceCurve, bias_variance, bias_variance_curve

NOISE, X = 0.3, np.linspace(-1, 1, 15)
X_TEST = np.linspace(-0.95, 0.95, 8)
ONE = {"initializations": 1, "orders": 1}


def target(x):
    return np.sin(3 * x)


def make_data(seed):
    return X, target(X) + np.sqrt(NOISE) * np.random.default_rng(seed).normal(size=len(X))


def of_degree(degree):
    """Return bias^2 and variance by the hat matrix, in the mean over the test points."""
    powers, tests = (np.vander(x, degree + 1) for x in (X, X_TEST))
    hat = tests @ np.linalg.pinv(powers)
    return np.mean((hat @ target(X) - target(X_TEST)) ** 2), NOISE * np.mean(np.sum(hat**2, axis=1))


def curve_of(degrees=(0, 1, 3, 5, 8), data_sets=150):
    sizes = {"data_sets": data_sets, **ONE, "noise": NOISE}
    return bias_variance_curve(Polynomial, degrees, make_data, X_TEST, target, label="degree", **sizes)


def test_the_u_curve_of_polynomials():
    curve = curve_of()
    truth = np.array([of_degree(degree) for degree in curve.values])
    for name, expected in (("bias^2", truth[:, 0]), ("variance", truth[:, 1]), ("loss", truth.sum(axis=1) + NOISE)):
        assert (np.abs(curve.of(name) - expected) < 4 * curve.errors(name)).all(), name
    assert curve.best == curve.values[truth.sum(axis=1).argmin()] == 3
    assert 0 < curve.values.index(curve.best) < len(curve.values) - 1
    by, error = curve.difference(8, 3)
    assert by == pytest.approx(curve[8]["loss"].value - curve[3]["loss"].value)
    assert abs(by - (truth[4].sum() - truth[2].sum())) < 4 * error
    # The same seeds, so that the two have noise in common.
    assert error < np.hypot(*curve.errors("loss")[[2, 4]])
    np.testing.assert_array_equal(curve[3].predictions, curve_of((3,)).results[0].predictions)
    lines = str(curve).splitlines()
    assert lines[0].split() == ["degree", "bias^2", "noise", "variance", "loss"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "3", "5", "8"]
    with pytest.raises(KeyError, match="2; there are: 0, 1, 3, 5, 8"):
        curve[2]


def found(**arguments):
    sizes = {"data_sets": 4, "initializations": 2, "orders": 2, "noise": NOISE}
    return bias_variance(lambda: Polynomial(3), make_data, X_TEST, target, **{**sizes, **arguments})


def test_the_table():
    result = found()
    rows = [re.split(r"  +", line.strip()) for line in str(result).splitlines()]
    assert rows[0] == ["part", "value", "standard error", "share of the loss"]
    names = ["bias^2", "noise", "variance", "of data", "of initialization", "of order", "loss"]
    assert [row[0] for row in rows[1:]] == names
    for name, value, error, share in rows[1:]:
        part = result[name.removeprefix("of ")]
        assert float(value) == pytest.approx(part.value, rel=1e-3)
        assert float(error) == pytest.approx(part.standard_error, rel=0.06)
        assert float(share[:-1]) == pytest.approx(100 * part.value / result["loss"].value, abs=0.06)
    assert list(result.split) == ["data", "initialization", "order"]
    assert result.predictions.shape == (4, 2, 2, 8, 1)
    with pytest.raises(KeyError, match=r"'bias'; there are: 'bias\^2', 'noise'"):
        result["bias"]


@pytest.mark.tensorflow
def test_what_tensorboard_shows(tmp_path):
    result, curve = found(), curve_of((1, 3), data_sets=3)
    result.write(tmp_path / "one", step=5)
    curve.write(tmp_path / "curve")
    events = read(tmp_path / "one")
    names = ["bias_squared", "noise", "variance", "data", "initialization", "order", "loss"]
    for name, part in zip(names, result.parts.values(), strict=True):
        assert events[f"bias_variance/{name}"] == [(5, pytest.approx(part.value, rel=1e-6))]
        assert events[f"bias_variance/{name}/standard_error"] == [(5, pytest.approx(part.standard_error, rel=1e-6))]
    assert {"text", "images", "scalars"} == set(kinds(tmp_path / "one").values())
    events = read(tmp_path / "curve")
    expected = [(i, pytest.approx(value, rel=1e-6)) for i, value in enumerate(curve.of("bias^2"))]
    assert events["bias_variance_curve/bias_squared"] == expected
    assert kinds(tmp_path / "curve")["bias_variance_curve/picture"] == "images"


@pytest.mark.parametrize("data_sets", [2, 5])
def test_pictures(data_sets):
    sizes = {"data_sets": data_sets, **ONE}
    wide = found(**sizes).picture()
    plane = bias_variance(
        lambda: Polynomial(1),
        lambda seed: (X, make_data(seed)[1]),
        np.stack([X_TEST, X_TEST]).T[:, :1].ravel(),
        y_test=target(X_TEST),
        **sizes,
    ).picture()
    assert wide.dtype == plane.dtype == np.uint8
    assert wide.ndim == 3
    curve = BiasVarianceCurve((0.01, 1.0), (found(**sizes), found(**sizes)), "weight")
    assert curve.picture((5.0, 3.0)).shape == (300, 500, 3)
    assert len(np.unique(wide.reshape(-1, 3), axis=0)) > 10


def dense(loss="mse", shared=None, compiled=True):
    net = keras.Sequential([keras.Input((1,)), shared or layers.Dense(1)])
    if compiled:
        net.compile("sgd", loss)
    return net


class Classifier(Polynomial):
    def predict_proba(self, x):
        return x


class Runaway(Polynomial):
    def predict(self, x):
        return np.where(np.arange(len(x)) == 3, np.nan, x)


class Pair(Polynomial):
    def predict(self, x):
        return [x, x]


SHARED, SAME = layers.Dense(1), dense()
COLUMN = X_TEST[:, None]


def columns(seed):
    return tuple(part[:, None] for part in make_data(seed))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data_sets": 1}, ValueError, "expected data_sets >= 2; got data_sets=1."),
        ({"data_sets": 2.0}, TypeError, "expected an integer for data_sets; got data_sets=2.0."),
        ({"initializations": 0}, ValueError, "expected initializations >= 1; got initializations=0."),
        (
            {"make_data": make_data(0), "bootstrap": False, "initializations": 1},
            ValueError,
            "expected initializations >= 2; got initializations=1.",
        ),
        ({"orders": 0}, ValueError, "expected orders >= 1; got orders=0."),
        ({"batch_size": 0}, ValueError, "expected batch_size >= 1; got batch_size=0."),
        ({"epochs": -1}, ValueError, "expected epochs >= 0; got epochs=-1."),
        ({"seed": 0.5}, TypeError, "expected an integer for seed; got seed=0.5."),
        ({"target": None}, ValueError, "expected either target or y_test; got target=None, y_test=None."),
        ({"target": X_TEST, "y_test": X_TEST}, ValueError, "expected either target or y_test; got "),
        ({"target": X}, ValueError, "expected targets of shape (8,); got shape=(15,). These are the predictions of"),
        ({"target": ["a"] * 8}, ValueError, "expected targets that are numbers; got dtype='<U1'."),
        ({"target": np.full(8, np.inf)}, ValueError, "expected finite targets; got targets='not finite'."),
        ({"noise": -1.0}, ValueError, "expected a finite noise >= 0; got noise=-1.0."),
        ({"noise": [1.0, 2.0]}, TypeError, "expected a number for noise, or one for each point; got noise=[1.0, 2.0]."),
        (
            {"target": None, "y_test": np.zeros((3, 8)), "noise": 1.0},
            ValueError,
            "expected no noise beside several observations; got noise=1.0. Of several observations the noise is",
        ),
        ({"build_fn": 3}, TypeError, "expected a function for build_fn; got build_fn=3."),
        ({"build_fn": dict}, TypeError, "expected build_fn to return a model with fit and predict; got model={}."),
        (
            {"build_fn": keras.Sequential()},
            TypeError,
            "expected a function for build_fn; got build_fn=<Sequential name=sequential",
        ),
        (
            {"build_fn": lambda: Classifier(1)},
            ValueError,
            "expected no classifier; got model='Classifier'. The decompo",
        ),
        ({"build_fn": lambda: Pair(1)}, TypeError, "expected an array of predictions; got predictions='list'. Models"),
        (
            {"build_fn": lambda: Runaway(1)},
            ValueError,
            "expected finite predictions; got data=0, initialization=0, order=0. Lower the learning rate, or",
        ),
        (
            {"make_data": lambda seed: X},
            TypeError,
            "expected a data set (x, y) or (x, y, sample_weight); got data_set='",
        ),
        ({"make_data": (X, X[:3])}, ValueError, "expected as many targets as inputs; got lengths=[15, 3]."),
        ({"x_test": X_TEST[:0]}, ValueError, "expected at least one test point; got shapes=[(0,"),
        ({"x_test": []}, ValueError, "expected at least one test point; got shapes=[]."),
        ({"make_data": (X[:0], X[:0])}, ValueError, "expected as many targets as inputs; got lengths=[0, 0]."),
        (
            {"make_data": (X, X > 0)},
            ValueError,
            "expected targets that are numbers; got kinds=['b']. The decomposition",
        ),
    ],
)
def test_bad_input(arguments, error, message):
    sizes = {"build_fn": lambda: Polynomial(1), "make_data": make_data, "x_test": X_TEST, "target": target, **ONE}
    with pytest.raises(error) as raised:
        bias_variance(**{**sizes, **arguments})
    assert str(raised.value).startswith(f"bias_variance: {message}")


@pytest.mark.parametrize(
    ("build_fn", "message"),
    [
        (lambda: SAME, "expected build_fn to return a new model each time; got model=<Sequential"),
        (lambda: dense(shared=SHARED), "expected build_fn to make new weights each time; got model="),
        (lambda: dense(compiled=False), "expected a compiled model; got compiled=False. Compile it in build_fn."),
        (lambda: dense("binary_crossentropy"), "expected no loss of a classification; got loss='binary_crossentropy'."),
        (lambda: dense(keras.losses.Hinge()), "expected no loss of a classification; got loss='Hinge'. The decompos"),
        (
            lambda seed: dense(shared=layers.Dense(1, use_bias=seed % 2 == 0)),
            "expected build_fn to make the same weights each time; got shapes=[",
        ),
    ],
    ids=["same", "shared", "not-compiled", "crossentropy", "hinge", "other-weights"],
)
def test_bad_models(build_fn, message):
    with pytest.raises(ValueError, match="expected") as raised:
        bias_variance(build_fn, columns, COLUMN, target(COLUMN), data_sets=8, epochs=0, **ONE)
    assert str(raised.value).startswith(f"bias_variance: {message}")


def test_a_model_that_learns_to_infinity_is_named():
    def build_fn():
        net = dense()
        net.compile(keras.optimizers.SGD(1e30), "mse")
        return net

    with pytest.raises(ValueError, match="expected finite predictions; got data=0, initialization=0, order=0"):
        bias_variance(build_fn, columns, COLUMN, target(COLUMN), data_sets=2, epochs=4, **ONE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "expected values, each once; got values=[]."),
        ({"values": [1, 1]}, "expected values, each once; got values=[1, 1]."),
    ],
)
def test_bad_curves(arguments, message):
    with pytest.raises(ValueError, match="expected") as raised:
        bias_variance_curve(Polynomial, arguments["values"], make_data, X_TEST, target)
    assert str(raised.value) == f"bias_variance_curve: {message}"
