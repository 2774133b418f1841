"""The largest error, of functions whose largest difference is known."""

import keras
import numpy as np
import pytest

from keras_kicks.diagnostics import sup_error


def zero(x):
    return np.zeros(len(x))


def test_a_peak_between_the_points_of_the_grid():
    def peak(x):
        return 1 - 1000 * np.abs(x - 0.1234567)

    coarse, fine = (sup_error(zero, lambda x: np.maximum(peak(x), 0), 0.0, 1.0, 1001, zooms) for zooms in (0, 2))
    assert coarse.value == pytest.approx(peak(0.123), rel=1e-3)
    assert fine.value == pytest.approx(1.0, abs=1e-4)
    assert fine.at == pytest.approx([0.1234567], abs=1e-7)


def test_the_ends_belong_to_it():
    found = sup_error(zero, np.exp, -1.0, 2.0)
    assert found.value == pytest.approx(np.exp(2.0), rel=1e-12)
    assert found.at.tolist() == [2.0]


def test_a_box():
    found = sup_error(zero, lambda x: np.sin(x[:, 0]) * (2 - (x[:, 1] - 0.3) ** 2), [0.0, -1.0], [3.0, 1.0], 10000)
    assert found.value == pytest.approx(2.0, abs=1e-6)
    assert found.at == pytest.approx([np.pi / 2, 0.3], abs=1e-3)


def test_a_model_is_asked_what_the_function_is_asked():
    """In float32, at the same inputs: a model that is the function has no error but its own rounding."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[1000.0, 1.0]])])
    both = lambda x: np.stack([1000 * x, x], axis=1)  # noqa: E731
    assert sup_error(model, both, 0.3, 0.7).value < 1e-4
    off = sup_error(model, lambda x: both(x) + [[0.0, 0.25]], 0.3, 0.7)
    assert off.value == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"low": 1.0}, ValueError, "expected low < high; got low=array([1.]), high=array([1.])."),
        ({"low": [0.0, 0.0]}, ValueError, "expected low < high; got low=array([0., 0.]), high=array([1.])."),
        ({"high": "1"}, TypeError, "expected a number for high; got high='1'."),
        ({"low": []}, ValueError, "expected a number for low, or one for each input; got low=[]."),
        ({"points": 1}, ValueError, "expected points >= 2; got points=1."),
        ({"points": 2.0}, TypeError, "expected an integer for points; got points=2.0."),
        ({"zooms": -1}, ValueError, "expected zooms >= 0; got zooms=-1."),
        (
            {"function": lambda x: np.ones(3)},
            ValueError,
            "expected as many values of the function as of the model; got shapes=[(3,), (11,)].",
        ),
        ({"function": lambda x: x * np.nan}, ValueError, "expected finite values; got at=[[0.0]]."),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error) as raised:
        sup_error(**{"model": zero, "function": np.exp, "low": 0.0, "high": 1.0, "points": 11, **arguments})
    assert str(raised.value) == f"sup_error: {message}"
