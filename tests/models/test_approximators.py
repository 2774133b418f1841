"""Networks that come near a function by construction: the bounds of theory, and NumPy's interpolation."""

import keras
import numpy as np
import pytest

from keras_kicks.diagnostics import sup_error
from keras_kicks.models import linear_interpolator, sawtooth_network, step_approximator

FUNCTIONS = {  # on [low, high], with the largest second derivative
    "sine": (np.sin, -2.0, 4.0, 1.0),
    "exponential": (np.exp, -1.0, 2.0, np.exp(2.0)),
    "bell": (lambda x: np.exp(-(x**2) / 2), -3.0, 3.0, 1.0),
    "runge": (lambda x: 1 / (1 + 25 * x**2), -1.0, 1.0, 50.0),
    "waves": (lambda x: np.sin(10 * x) + 0.3 * x, 0.0, 2.0, 100.0),
}
ROUGH = {"root": (lambda x: np.sqrt(np.abs(x)), -1.0, 1.0), "kinks": (lambda x: np.abs(np.abs(x) - 0.3), -1.0, 1.0)}
CONTINUOUS = {**{name: case[:3] for name, case in FUNCTIONS.items()}, **ROUGH}


def values(model, x):
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x[:, None], model.inputs[0].dtype)))[:, 0]


def modulus(function, low, high, h):
    """Return the largest difference of two values whose places are no further apart than h, and that of all."""
    grid = np.linspace(low, high, 20001)
    values, reach = function(grid), int(np.ceil(h / (grid[1] - grid[0]))) + 1
    windows = np.lib.stride_tricks.sliding_window_view(values, min(reach + 1, len(values)))
    return (windows.max(axis=1) - windows.min(axis=1)).max(), values.max() - values.min()


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("width", [1, 12, 200])
def test_steps_are_as_near_as_the_modulus_of_continuity(name, width):
    function, low, high = CONTINUOUS[name]
    h = (high - low) / (width + 1)
    omega, spread = modulus(function, low, high, h)
    for sharpness in (10.0, 40.0):
        model = step_approximator(function, low, high, width, sharpness)
        bound = omega + 2 * spread / (1 + np.exp(sharpness / 2))
        error = sup_error(model, function, low, high, points=5001).value
        assert 0 < error <= bound
        # The bound is no idle one: a cell of a slope has half of it.
        assert sharpness < 40 or width < 7 or error > omega / 4


def test_steps_are_a_staircase():
    """In the middle of a cell the other steps are over, or not begun."""
    model = step_approximator(np.sin, 0.0, 3.0, 9)
    middles = 0.15 + 0.3 * np.arange(10)
    np.testing.assert_allclose(values(model, middles), np.sin(middles), atol=1e-6)
    edges = 0.3 * np.arange(1, 10)
    halves = (np.sin(middles[1:]) + np.sin(middles[:-1])) / 2
    np.testing.assert_allclose(values(model, edges), halves, atol=1e-5)
    beyond = values(model, np.array([-9.0, 9.0]))
    np.testing.assert_allclose(beyond, np.sin(middles[[0, -1]]), atol=1e-6)


def slope(model, function, low, high, widths):
    errors = [sup_error(model(width), function, low, high, points=5001).value for width in widths]
    return np.polyfit(np.log(widths), np.log(errors), 1)[0]


def test_how_fast_the_error_falls():
    """With the width for steps, with its square for lines; with its root where the slope is infinite."""
    widths = np.array([20, 40, 80, 160, 320])
    for function, low, high, _ in FUNCTIONS.values():
        rate = slope(lambda n: step_approximator(function, low, high, n - 1), function, low, high, widths)  # noqa: B023
        assert rate == pytest.approx(-1, abs=0.06)
    widths = np.array([15, 30, 60, 120])
    for function, low, high, _ in FUNCTIONS.values():
        rate = slope(lambda n: linear_interpolator(function, low, high, n), function, low, high, widths)  # noqa: B023
        assert rate == pytest.approx(-2, abs=0.25)
    widths = np.array([21, 41, 81, 161])
    rate = slope(lambda n: step_approximator(np.sqrt, 0.0, 1.0, n - 1), np.sqrt, 0.0, 1.0, widths)
    assert rate == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("units", ["relu", "maxout"])
@pytest.mark.parametrize("pieces", [1, 13, 50])
def test_lines_are_those_of_numpy(name, units, pieces):
    function, low, high, curvature = FUNCTIONS[name]
    model = linear_interpolator(function, low, high, pieces, units)
    knots = np.linspace(low, high, pieces + 1)
    x = np.linspace(low, high, 1001)
    expected = np.interp(x, knots, function(knots))
    changes = np.abs(np.diff(np.diff(function(knots)) / np.diff(knots), prepend=0)).sum() * (high - low)
    np.testing.assert_allclose(values(model, x), expected, rtol=0, atol=2e-6 * (1 + changes))
    h = (high - low) / pieces
    assert sup_error(model, function, low, high).value <= h**2 / 8 * curvature + 2e-6 * (1 + changes)
    assert len(model.layers) == 2
    assert model.layers[0].kernel.shape[1] == (pieces if units == "relu" else 2 * pieces)


@pytest.mark.tensorflow  # Keras computes in float64 throughout there alone.
@pytest.mark.parametrize("units", ["relu", "maxout"])
def test_float64_goes_on_where_float32_ends(units):
    function, low, high, curvature = FUNCTIONS["sine"]
    model = linear_interpolator(function, low, high, 3000, units, dtype="float64")
    x = np.linspace(low, high, 7777)
    error = np.abs(values(model, x) - function(x)).max()
    assert 0.5 < error / ((6 / 3000) ** 2 / 8 * curvature) <= 1


def triangles(x, depth):
    """Return the triangle wave of period 2 / 2^depth."""
    phase = np.asarray(x, "float64") * 2 ** (depth - 1) % 1
    return 1 - np.abs(2 * phase - 1)


@pytest.mark.parametrize("depth", [1, 2, 5, 10])
def test_the_sawtooth_is_exact(depth):
    model = sawtooth_network(depth)
    x = np.concatenate([np.arange(2**12 + 1) / 2**12, np.random.default_rng(0).integers(0, 2**24, 999) / 2**24])
    np.testing.assert_array_equal(values(model, x), triangles(x, depth))
    assert model.count_params() == 6 * depth + 1


def test_a_shallow_network_needs_a_unit_for_each_piece():
    depth = 6
    enough = linear_interpolator(lambda x: triangles(x, depth), 0.0, 1.0, 2**depth)
    assert sup_error(enough, lambda x: triangles(x, depth), 0.0, 1.0).value < 1e-3
    # Of the same number of weights, 3 pieces + 1: no straight line is near three ends of the teeth that alternate.
    pieces = (sawtooth_network(depth).count_params() - 1) // 3
    assert pieces < 2 ** (depth - 1)
    few = linear_interpolator(lambda x: triangles(x, depth), 0.0, 1.0, pieces)
    assert few.count_params() <= sawtooth_network(depth).count_params()
    assert sup_error(few, lambda x: triangles(x, depth), 0.0, 1.0).value >= 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: step_approximator(np.sin, 0.0, 3.0, 5),
        lambda: linear_interpolator(np.sin, 0.0, 3.0, 5, "maxout"),
        lambda: sawtooth_network(2),
    ],
)
def test_saved_and_trained_on(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.keras")
    loaded, x = keras.saving.load_model(tmp_path / "model.keras"), np.linspace(0, 1, 32)[:, None]
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    loaded.compile(keras.optimizers.SGD(1e-3), "mse")
    before = loaded.evaluate(x, x, verbose=0)
    loaded.fit(x, x, epochs=3, verbose=0)
    assert loaded.evaluate(x, x, verbose=0) < before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: step_approximator(3, 0, 1, 5), TypeError, "step_approximator: expected a function; got function=3."),
        (
            lambda: step_approximator(np.sin, 1, 1, 5),
            ValueError,
            "step_approximator: expected low < high; got low=1, h",
        ),
        (lambda: step_approximator(np.sin, 0, "1", 5), TypeError, "step_approximator: expected a number for high; got"),
        (
            lambda: step_approximator(np.sin, 0, 1, 0),
            ValueError,
            "step_approximator: expected width >= 1; got width=0.",
        ),
        (lambda: step_approximator(np.sin, 0, 1, 2.0), TypeError, "step_approximator: expected an integer for width;"),
        (
            lambda: step_approximator(np.sin, 0, 1, 2, 0),
            ValueError,
            "step_approximator: expected sharpness > 0; got sh",
        ),
        (
            lambda: step_approximator(lambda x: x + np.inf, 0, 1, 2),
            ValueError,
            "step_approximator: expected a finite number for each of 3 points; got shape=(3,).",
        ),
        (
            lambda: linear_interpolator(lambda x: 1.0, 0, 1, 2),
            ValueError,
            "linear_interpolator: expected a finite number for each of 3 points; got shape=().",
        ),
        (lambda: linear_interpolator(np.sin, 0, 1, 0), ValueError, "linear_interpolator: expected pieces >= 1; got pi"),
        (
            lambda: linear_interpolator(np.sin, 0, 1, 2, "tanh"),
            ValueError,
            "linear_interpolator: expected units to be one of 'relu', 'maxout'; got units='tanh'.",
        ),
        (lambda: sawtooth_network(0), ValueError, "sawtooth_network: expected depth >= 1; got depth=0."),
        (lambda: sawtooth_network(True), TypeError, "sawtooth_network: expected an integer for depth; got depth=True."),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(message)
