"""How fast, and where to: rates on quadratics, and the example on which Adam goes the wrong way."""

import keras
import numpy as np
import pytest
from optimizers.table import apply, numbers

import keras_kicks.optimizers as o

CONDITION = 25.0
BEST = (np.sqrt(CONDITION) - 1) / (np.sqrt(CONDITION) + 1)


def errors(optimizer, steps):
    """Distances from the minimum of a quadratic with curvatures 1 and `CONDITION`."""
    curvature = np.asarray([1.0, CONDITION], "float32")
    w = keras.Variable(np.ones(2, "float32"))
    distances = []
    for _ in range(steps):
        apply(optimizer, [curvature * numbers([w])[0]], [w])
        distances.append(np.linalg.norm(numbers([w])[0]))
    return distances


@pytest.mark.parametrize(
    ("make", "rate"),
    [
        (lambda: o.GradientDescent(2 / (1 + CONDITION)), (CONDITION - 1) / (CONDITION + 1)),
        (
            lambda: o.Momentum(4 / (1 + np.sqrt(CONDITION)) ** 2, BEST**2),
            BEST,
        ),
    ],
)
def test_rates_with_the_best_constants(make, rate):
    """(k - 1) / (k + 1) for descent, (sqrt k - 1) / (sqrt k + 1) for the heavy ball (Polyak 1964)."""
    distances = errors(make(), 41)
    # The heavy ball's error is the rate's power times the number of the step.
    scale = 1 if rate > 0.9 else 41 / 11
    np.testing.assert_allclose((distances[40] / distances[10] / scale) ** (1 / 30), rate, rtol=0.02)


def test_adam_fails_where_amsgrad_does_not():
    """Reddi et al. 2018, section 3: gradients C, -1, -1 on [-1, 1], whose sum is positive: the best is -1."""
    ends = []
    for amsgrad in (False, True):
        w = keras.Variable(0.0, constraint=lambda x: keras.ops.clip(x, -1.0, 1.0))
        rate = lambda: 0.5 / keras.ops.sqrt(keras.ops.cast(optimizer.iterations, "float32") + 1)  # noqa: B023, E731
        optimizer = o.Adam(rate, beta_1=0.0, beta_2=1 / (1 + 3.0**2), bias_correction=False, amsgrad=amsgrad)
        for step in range(900):
            apply(optimizer, [np.float32(3.0 if step % 3 == 0 else -1.0)], [w])
        ends.append(float(numbers([w])[0]))
    assert ends[0] > 0.9
    assert ends[1] < -0.9
