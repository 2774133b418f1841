"""The decomposition of the squared loss without training: against known components and closed forms."""

import numpy as np
import pytest
from diagnostics.linear_estimators import FixedDesign, Ridge

from keras_kicks.diagnostics import bias_variance
from keras_kicks.diagnostics.squared_loss import loss_parts
from keras_kicks.diagnostics.u_statistics import mean_over_pairs

NAMES = ("data", "initialization", "order")
REPETITIONS, POINTS, OUTPUTS = 1500, 4, 2
OF_DATA, OF_INITIALIZATION, OF_ORDER, NOISE = 1.0, 0.49, 0.25, 0.3
MIX = np.array([[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.0, 0.6, 0.8, 0.0], [0.0, 0.0, 0.6, 0.8]])


def predictions(rng, sizes, bias):
    """Return random effects of known variance, of data correlated between the points."""
    i, j, k = sizes
    data = np.einsum("pq,iqo->ipo", MIX, rng.normal(size=(i, POINTS, OUTPUTS)))[:, None, None]
    weights = np.sqrt(OF_INITIALIZATION) * rng.normal(size=(i, j, 1, POINTS, OUTPUTS))
    order = np.sqrt(OF_ORDER) * rng.uniform(-1, 1, size=(i, j, k, POINTS, OUTPUTS)) * np.sqrt(3)
    return data + weights + order + bias


def repeated(sizes, bias, targets, noise, exact):
    """Return the values and the standard errors by part, each of shape (repetitions,)."""
    rng = np.random.default_rng(0)
    runs = [loss_parts(predictions(rng, sizes, bias), NAMES, targets(rng), noise, exact) for _ in range(REPETITIONS)]
    pick = lambda name, place: np.array([run[name][place] for run in runs])  # noqa: E731
    return {name: (pick(name, 0), pick(name, 1)) for name in runs[0]}


def exact_targets(rng):
    return np.zeros((1, POINTS, OUTPUTS))


def expect_unbiased(found, expected):
    assert set(found) == set(expected)
    for name, truth in expected.items():
        values, _ = found[name]
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(REPETITIONS) + 1e-12, name


def expect_calibrated(found, *names):
    for name in names:
        values, errors = found[name]
        assert 0.9 < np.sqrt(np.mean(errors**2)) / values.std() < 1.1, name


@pytest.mark.parametrize(
    ("sizes", "split"),
    [
        ((8, 3, 2), {"data": OF_DATA, "initialization": OF_INITIALIZATION, "order": OF_ORDER}),
        ((8, 3, 1), {"data": OF_DATA, "initialization and order": OF_INITIALIZATION + OF_ORDER}),
        ((8, 1, 3), {"data and initialization": OF_DATA + OF_INITIALIZATION, "order": OF_ORDER}),
        ((8, 1, 1), {}),
    ],
)
def test_known_components(sizes, split):
    variance, bias = OF_DATA + OF_INITIALIZATION + OF_ORDER, 0.7
    found = repeated(sizes, bias, exact_targets, np.full(POINTS, NOISE), True)
    total = {"bias^2": bias**2, "noise": NOISE, "variance": variance, "loss": bias**2 + NOISE + variance}
    expect_unbiased(found, {**total, **split})
    expect_calibrated(found, "bias^2", "variance", "loss", *split)
    assert (found["noise"][1] == 0).all()


def test_without_bias_the_estimate_is_as_often_below_zero():
    """There the error is on the safe side, at most by the square root of 2."""
    found = repeated((8, 2, 1), 0.0, exact_targets, None, True)
    values, errors = found["bias^2"]
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(REPETITIONS)
    assert (values < 0).mean() > 0.3
    assert 1.0 < np.sqrt(np.mean(errors**2)) / values.std() < np.sqrt(2)


def test_three_data_sets_have_the_error_of_the_jackknife():
    rng = np.random.default_rng(0)
    a = rng.normal(size=3)
    values = [np.var(np.delete(a, i), ddof=1) for i in range(3)]
    jackknife = np.sqrt(2 / 3 * np.sum((values - np.mean(values)) ** 2))
    mean, error = mean_over_pairs((a[:, None] - a[None, :]) ** 2 / 2)
    assert mean == pytest.approx(np.var(a, ddof=1))
    assert error == pytest.approx(jackknife)
    assert np.isnan(mean_over_pairs(np.ones((2, 2)))[1])


OFFSETS = np.array([0.2, 0.5, 0.8, 0.5])


@pytest.mark.parametrize(("observations", "noise"), [(1, None), (1, NOISE), (3, None)])
def test_observed_targets(observations, noise):
    """Test points are drawn anew with their noise, so the errors hold those too."""

    def observed(rng):
        shape = (observations, POINTS, OUTPUTS)
        return -rng.choice(OFFSETS, size=(POINTS, 1)) + np.sqrt(NOISE) * rng.normal(size=shape)

    known = None if noise is None else np.full(POINTS, noise)
    found = repeated((8, 2, 1), 0.0, observed, known, False)
    variance, bias = OF_DATA + OF_INITIALIZATION + OF_ORDER, np.mean(OFFSETS**2)
    split = {"data": OF_DATA, "initialization and order": OF_INITIALIZATION + OF_ORDER}
    if observations == 1 and noise is None:
        first = {"bias^2 + noise": bias + NOISE}
    else:
        first = {"bias^2": bias, "noise": NOISE}
    expect_unbiased(found, {**first, "variance": variance, **split, "loss": bias + NOISE + variance})
    for name in (next(iter(first)), "loss"):
        values, errors = found[name]
        # What the models differ by at single points counts twice: in groups, and in the scatter over points.
        assert 1.0 < np.sqrt(np.mean(errors**2)) / values.std() < 1.6, name
    if observations > 1:
        values, errors = found["noise"]
        assert 0.85 < np.sqrt(np.mean(errors**2)) / values.std() < 1.15


@pytest.mark.parametrize(("observations", "exact"), [(1, True), (1, False), (3, False)])
def test_the_parts_sum_to_the_loss_that_was_measured(observations, exact):
    rng = np.random.default_rng(0)
    f, y = predictions(rng, (5, 2, 3), 0.3), rng.normal(size=(observations, POINTS, OUTPUTS))
    noise = np.arange(1.0, 5.0) if observations == 1 else None
    parts = loss_parts(f, NAMES, y, noise, exact)
    measured = np.mean((f[None] - y[:, None, None, None]) ** 2) + (noise.mean() if exact else 0.0)
    assert parts["loss"].value == pytest.approx(measured)
    for place in ("value", "per_point"):
        first, last = (getattr(parts[name], place) for name in ("bias^2", "loss"))
        split = sum(getattr(parts[name], place) for name in NAMES)
        np.testing.assert_allclose(getattr(parts["variance"], place), split)
        np.testing.assert_allclose(first + getattr(parts["noise"], place) + split, last)
    for part in parts.values():
        assert part.per_point.shape == (POINTS,)
        assert part.per_point.mean() == pytest.approx(part.value)


@pytest.mark.parametrize("weight", [0.0, 3.0, 100.0])
def test_ridge_regression_in_closed_form(weight):
    design = FixedDesign()
    bias, variance = design.ridge(weight)
    sizes = {"data_sets": 400, "initializations": 1, "orders": 1}
    arguments = {"target": design.target, "noise": design.noise, **sizes}
    found = bias_variance(lambda: Ridge(weight), design.make_data, design.x_test, **arguments)
    truth = {"bias^2": np.mean(bias**2), "variance": variance.mean()}
    truth["loss"] = sum(truth.values()) + design.noise
    for name, value in truth.items():
        assert abs(found[name].value - value) < 4 * found[name].standard_error, name
    assert not found.split
    np.testing.assert_allclose(found["variance"].per_point, variance, rtol=6 * np.sqrt(2 / 400))
    # Of the square of a mean with this variance, whatever its bias is.
    spread = np.sqrt(4 * bias**2 * variance / 400 + 2 * (variance / 400) ** 2)
    assert (np.abs(found["bias^2"].per_point - bias**2) < 5 * spread).all()


def test_errors_of_ridge_regression_are_calibrated():
    design, weight = FixedDesign(), 10.0
    bias, variance = design.ridge(weight)
    truth = {"bias^2": np.mean(bias**2), "variance": variance.mean()}
    scores = {name: [] for name in truth}
    for seed in range(150):
        sizes = {"data_sets": 12, "initializations": 1, "orders": 1, "seed": seed}
        found = bias_variance(lambda: Ridge(weight), design.make_data, design.x_test, design.target, **sizes)
        for name, value in truth.items():
            scores[name].append((found[name].value - value) / found[name].standard_error)
    for values in scores.values():
        # Of few data sets: like a t distribution, and skewed, since a small variance has a small error.
        assert 0.8 < np.std(values) < 1.7
        assert 0.8 < np.mean(np.abs(values) < 2) < 0.99


def test_bootstrap_samples_of_a_mean():
    """The mean of n draws from n numbers has their mean, and their variance over n."""

    class Mean:
        def fit(self, x, y):
            assert len(x) == len(y) == 15
            np.testing.assert_array_equal(x[:, 0] ** 2, y)
            self.mean = y.mean()

        def predict(self, x):
            return np.full(len(x), self.mean)

    x = np.arange(15.0)[:, None]
    y, sizes = x[:, 0] ** 2, {"data_sets": 500, "initializations": 1, "orders": 1}
    found = bias_variance(Mean, (x, y), x[:2], np.full(2, y.mean()), **sizes)
    assert abs(found["variance"].value - y.var() / 15) < 4 * found["variance"].standard_error
    assert abs(found["bias^2"].value) < 4 * found["bias^2"].standard_error
    assert found["variance"].standard_error < 0.2 * y.var() / 15


def test_what_a_seed_decides():
    """Seeds of data, of initializations and of orders are all different, and the same again."""
    seen = {"data": [], "weights": [], "order": []}

    class Estimator:
        def __init__(self, width=3, seed=None):
            assert width == 3
            seen["weights"].append(seed)

        def predict(self, x):
            return np.zeros(len(x)) + seen["weights"][-1]

    def make_data(seed):
        seen["data"].append(seed)
        return np.zeros((4, 1)), np.zeros(4)

    Estimator.fit = None
    sizes = {"data_sets": 3, "initializations": 2, "orders": 2}
    first, second = (
        bias_variance(
            Estimator,
            make_data,
            np.zeros((2, 1)),
            np.zeros(2),
            fit=lambda model, x, y, seed: seen["order"].append(seed),
            seed=7,
            **sizes,
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.predictions, second.predictions)
    for values, different in zip(seen.values(), (3, 6, 12), strict=True):
        half = len(values) // 2
        assert values[:half] == values[half:]
        assert len(set(values)) == different
    assert len(set().union(*seen.values())) == 3 + 6 + 12
