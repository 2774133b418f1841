"""Norm penalties against NumPy and torch, and what training with them ends at against scikit-learn's solutions."""

import math

import keras
import numpy as np
import pytest
import subjects
from keras import ops

from keras_kicks.ops.norms import lp_norm, scaled_norm
from keras_kicks.optimizers import Chain, Proximal
from keras_kicks.regularizers import ElasticNet, Lasso, Lp, Ridge

ORDERS = [0.5, 1, 1.5, 2, 3, 7, math.inf]


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def gradient(regularizer, x):
    """Return value and gradient."""
    from cases import Case

    case = Case(lambda dtype: regularizer, lambda: (x,), "regularizer", None)
    value, gradients, _ = subjects.value_and_gradients(case, regularizer, [x], False)
    cotangent = np.random.default_rng(3).normal(size=())
    return subjects.array(value) / cotangent, subjects.array(gradients[-1]) / cotangent


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("p", ORDERS)
def test_the_norm_is_numpys(p, squared):
    x = values(3, 5)
    expected = np.linalg.norm(x.astype("float64").ravel(), p)
    found = float(ops.convert_to_numpy(Lp(p, 0.3, squared)(ops.convert_to_tensor(x))))
    assert found == pytest.approx(0.3 * expected ** (2 if squared else 1), rel=1e-5)


@pytest.mark.parametrize("p", ORDERS)
def test_value_and_gradient_are_torchs(p):
    torch = pytest.importorskip("torch")
    x = values(4, 3)
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    norm = torch.linalg.vector_norm(theirs, p)
    norm.backward()
    value, slope = gradient(Lp(p, 1.0), x)
    assert value == pytest.approx(norm.item(), rel=1e-5)
    np.testing.assert_allclose(slope, theirs.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("x", [np.zeros(3, "float32"), np.array([0.0, 2.0, 0.0], "float32")], ids=["all", "some"])
def test_gradients_are_finite_at_zero(p, x):
    value, slope = gradient(Lp(p, 1.0), x)
    assert value == pytest.approx(float(x.max()))
    if x.any():
        np.testing.assert_allclose(slope, [0.0, 1.0, 0.0])
    else:
        np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3])
def test_a_nan_is_not_lost(p):
    assert np.isnan(gradient(Lp(p, 1.0), np.array([1.0, np.nan, 0.0], "float32"))[0])


@pytest.mark.parametrize("p", [2, 7, 0.5])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_power_leaves_the_range(p, scale):
    x = values(20)
    value, slope = gradient(Lp(p, 1.0), x * np.float32(scale))
    expected, slopes = gradient(Lp(p, 1.0), x)
    assert value == pytest.approx(expected * scale, rel=1e-5)
    np.testing.assert_allclose(slope, slopes, rtol=1e-4, atol=1e-7 * np.abs(slopes).max())


def test_infinity_may_be_written_as_in_a_config():
    penalty = Lp(math.inf, 0.5)
    assert (
        Lp(**penalty.get_config()).get_config() == penalty.get_config() == {"p": "inf", "weight": 0.5, "squared": False}
    )


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, math.inf])
@pytest.mark.parametrize("squared", [False, True])
def test_of_nothing_the_norm_is_0(p, squared):
    value, slope = gradient(Lp(p, 1.0, squared), np.zeros((0, 3), "float32"))
    assert value == 0
    assert slope.shape == (0, 3)


def test_names_are_special_cases():
    x = ops.convert_to_tensor(values(6, 2))
    pairs = [
        (Lasso(0.3), Lp(1, 0.3)),
        (Lasso(0.3), keras.regularizers.L1(0.3)),
        (Ridge(0.3), Lp(2, 0.3)),
        (Ridge(0.3, squared=True), keras.regularizers.L2(0.3)),
        (ElasticNet(0.3, 1.0), Lasso(0.3)),
        (ElasticNet(0.3, 0.0), Ridge(0.15)),
        (ElasticNet(0.3, 0.4, "scikit-learn"), keras.regularizers.L1L2(0.12, 0.09)),
    ]
    for one, other in pairs:
        np.testing.assert_allclose(ops.convert_to_numpy(one(x)), ops.convert_to_numpy(other(x)), rtol=1e-6)


def regression(samples=60, features=8):
    """Return data of a linear model, most of whose coefficients are 0."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(samples, features))
    return x, x @ np.array([2.0, -1.0, 0.5, *[0.0] * (features - 3)]) + rng.normal(size=samples) * 0.3


def fitted(optimizer, penalty, x, y, steps=3000):
    """Return the coefficients after full-batch steps on half of the mean square, and the penalty."""
    w = keras.Variable(np.zeros(x.shape[1], "float32"))
    features, targets = x.astype("float32"), y.astype("float32")
    optimizer.build([w])
    for _ in range(steps):
        current = ops.convert_to_numpy(w)
        slope = features.T @ (features @ current - targets) / len(y)
        if penalty is not None:
            slope = slope + gradient(penalty, current)[1].astype("float32")
        if subjects.BACKEND == "torch":
            import torch

            with torch.no_grad():
                optimizer.apply([ops.convert_to_tensor(slope)], [w])
        else:
            optimizer.apply([ops.convert_to_tensor(slope)], [w])
    return ops.convert_to_numpy(w)


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.5])
def test_the_lasso_path_is_that_of_scikit_learn(alpha):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = regression()
    expected = linear_model.Lasso(alpha, fit_intercept=False, tol=1e-10, max_iter=100000).fit(x, y).coef_
    found = fitted(Chain([Proximal(alpha)], 0.3), None, x, y, steps=400)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found == 0, expected == 0)
    # The conditions of Karush, Kuhn and Tucker.
    slope = x.T @ (y - x @ found) / len(y)
    assert np.abs(slope).max() <= alpha * (1 + 1e-3)
    np.testing.assert_allclose(slope[found != 0], alpha * np.sign(found[found != 0]), rtol=1e-2)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.3])
def test_the_elastic_net_is_that_of_scikit_learn(l1_ratio):
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), alpha = regression(), 0.2
    if l1_ratio:
        expected = linear_model.ElasticNet(alpha, l1_ratio=l1_ratio, fit_intercept=False, tol=1e-10).fit(x, y).coef_
    else:
        expected = linear_model.Ridge(alpha * len(y), fit_intercept=False).fit(x, y).coef_
    # The part with corners by the proximal step, the smooth one by its gradient.
    smooth = ElasticNet(alpha * (1 - l1_ratio), 0.0, "scikit-learn")
    steps = [Proximal(alpha * l1_ratio)] if l1_ratio else [Proximal(0.0)]
    found = fitted(Chain(steps, 0.3), smooth, x, y, steps=400)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_ridge_path_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = regression()
    norms = []
    for alpha in (1.0, 0.1, 0.01):
        # scikit-learn's is a sum over the samples, and not halved.
        expected = linear_model.Ridge(alpha * len(y), fit_intercept=False).fit(x, y).coef_
        ridge = Ridge(alpha / 2, squared=True)
        found = fitted(Chain([Proximal(0.0)], 0.4), ridge, x, y, steps=60)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        norms.append(np.linalg.norm(found))
    assert norms == sorted(norms)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.6])
def test_zeros_along_a_path_are_those_of_scikit_learn(l1_ratio):
    """From a weight that leaves none to one that leaves all, and with each weight the same coefficients exactly 0."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = regression()
    largest = np.abs(x.T @ y).max() / len(y) / l1_ratio
    counts = []
    for alpha in largest * np.array([1.02, 0.7, 0.3, 0.1, 0.02, 0.002]):
        theirs = linear_model.ElasticNet(alpha, l1_ratio=l1_ratio, fit_intercept=False, tol=1e-12, max_iter=100000)
        expected = theirs.fit(x, y).coef_
        chain = Chain([Proximal(alpha * l1_ratio, alpha * (1 - l1_ratio))], 0.5)
        found = fitted(chain, None, x, y, steps=60)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found == 0, expected == 0)
        counts.append((found == 0).sum())
    assert counts[0] == 8
    assert counts[-1] == 0
    assert len(set(counts)) >= 4


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
@pytest.mark.parametrize("share", [0.3, 0.8, 1.05])
def test_the_notes_norm_has_a_proximal_step(share, l1_ratio):
    """The conditions of the minimum of ElasticNet in the notes' form, which at l1_ratio 0 is half of Ridge."""
    x, y = regression()
    # At 0 the slope of the data, less the lasso's part, is as long as the norm's weight.
    slope = np.abs(x.T @ y / len(y))
    weights = np.linspace(0, 20, 20001)
    beyond = [np.linalg.norm(np.maximum(slope - a * l1_ratio, 0)) <= a * (1 - l1_ratio) / 2 for a in weights]
    alpha = share * weights[np.argmax(beyond)]
    l1, norm = alpha * l1_ratio, alpha * (1 - l1_ratio) / 2
    found = fitted(Chain([Proximal(l1, l2_norm=norm)], 0.3), None, x, y, steps=150).astype("float64")
    assert (found == 0).all() == (share > 1)
    if share < 1:
        slope, kept = x.T @ (y - x @ found) / len(y), found != 0
        pull = l1 * np.sign(found) + norm * found / np.linalg.norm(found)
        np.testing.assert_allclose(slope[kept], pull[kept], atol=1e-4)
        assert (np.abs(slope[~kept]) <= l1 + 1e-5).all()
        penalty = ElasticNet(alpha, l1_ratio)
        value = float(ops.convert_to_numpy(penalty(ops.convert_to_tensor(found.astype("float32")))))
        assert value == pytest.approx(l1 * np.abs(found).sum() + norm * np.linalg.norm(found), rel=1e-5)


def test_the_notes_ridge_can_make_all_weights_zero():
    """Where the gradient of the data at 0 is shorter than the weight; the squared one never does."""
    x, y = regression()
    force = np.linalg.norm(x.T @ y / len(y))
    for factor, zero in ((1.05, True), (0.8, False)):
        w = fitted(Chain([Proximal(0.0)], 0.01), Ridge(factor * force), x, y, steps=200)
        assert (np.linalg.norm(w) < 0.05) == zero


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Lp(0), ValueError, "Lp: expected p > 0; got p=0. For the number of weights that are not 0, prune."),
        (lambda: Lp(-1.0), ValueError, "Lp: expected p > 0; got p=-1.0"),
        (lambda: Lp(math.nan), ValueError, "Lp: expected a finite p"),
        (lambda: Lp("2"), TypeError, "Lp: expected a number for p"),
        (lambda: Lp(2, -0.1), ValueError, "Lp: expected weight >= 0; got weight=-0.1"),
        (lambda: Lasso(math.inf), ValueError, "Lasso: expected a finite weight; got weight=inf"),
        (lambda: Ridge(None), TypeError, "Ridge: expected a number for weight; got weight=None"),
        (lambda: ElasticNet(1.0, 1.1), ValueError, "ElasticNet: expected 0 <= l1_ratio <= 1; got l1_ratio=1.1"),
        (lambda: ElasticNet(form="other"), ValueError, "ElasticNet: expected form to be one of 'notes', 'scikit"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("p", [2, 3, 4])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e15, 1e30])
def test_the_short_way_to_a_norm_is_the_long_one(p, scale):
    """Where the powers stay in their range, and where they leave it on the way; also in float64."""
    x = values(30) * np.float32(scale)
    x[3] = 0.0
    short, long = (ops.convert_to_numpy(f(ops.convert_to_tensor(x), p)) for f in (lp_norm, scaled_norm))
    np.testing.assert_allclose(short, long, rtol=2e-6)
    expected = np.linalg.norm(x.astype("float64"), p)
    np.testing.assert_allclose(short, expected, rtol=2e-6)
    slopes = np.sign(x) * (np.abs(x.astype("float64")) / expected) ** (p - 1)
    np.testing.assert_allclose(gradient(Lp(p, 1.0), x)[1], slopes, rtol=1e-5, atol=1e-7)


@pytest.mark.tensorflow
@pytest.mark.parametrize("penalty", [Ridge(0.1), Ridge(0.1, squared=True), ElasticNet(0.1), Lp(3, 0.1)])
def test_an_eager_step_is_that_of_a_graph(penalty):
    ends = []
    for eagerly in (False, True):
        kernel = {"kernel_initializer": "ones", "kernel_regularizer": penalty}
        net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, **kernel)])
        net.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eagerly)
        net.fit(np.eye(2), np.zeros((2, 1)), verbose=0)
        ends.append(net.get_weights()[0])
    np.testing.assert_allclose(*ends, rtol=1e-6)
    assert (ends[0] < 1).all()
