"""Projections onto balls: against the condition of the nearest point, NumPy with a sort, and scikit-learn's lasso."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.constraints import L1Ball, L2Ball, LinfBall

BALLS = {L1Ball: (1, np.inf), L2Ball: (2, 2), LinfBall: (np.inf, 1)}
RADII = [0.3, 2.0, 50.0]


def values(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype("float32")


def projected(constraint, x):
    return ops.convert_to_numpy(constraint(ops.convert_to_tensor(x)))


def duchi(x, radius):
    """The algorithm of figure 1 of the paper, in float64."""
    x = x.astype("float64")
    magnitudes = np.sort(np.abs(x).ravel())[::-1]
    if magnitudes.sum() <= radius:
        return x
    excess = np.cumsum(magnitudes) - radius
    last = np.flatnonzero(magnitudes * np.arange(1, x.size + 1) > excess)[-1]
    return np.sign(x) * np.maximum(np.abs(x) - excess[last] / (last + 1), 0)


def lengths(size, kind):
    """Magnitudes that take few or many steps to be told apart."""
    rng = np.random.default_rng(3)
    signs = rng.choice([-1.0, 1.0], size)
    return {
        "normal": rng.normal(size=size),
        "ties": rng.integers(-3, 4, size=size),
        "equal": signs,
        "one": np.eye(1, size, size // 2).ravel() * 7,
        "geometric": signs * 2.0 ** -np.arange(size),
        "one after the other": signs * (1 - 2.0 ** -np.arange(size)),
        "heavy": signs * rng.pareto(0.7, size),
    }[kind].astype("float32")


KINDS = ["normal", "ties", "equal", "one", "geometric", "one after the other", "heavy"]


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ball", BALLS)
def test_it_is_the_nearest_point(ball, kind, radius):
    """No point of the ball makes an acute angle: <x - p, v - p> <= 0, and the worst v is that of the dual norm."""
    norm, dual = BALLS[ball]
    x = lengths(40, kind)
    p = projected(ball(radius), x).astype("float64")
    assert np.linalg.norm(p, norm) <= radius * (1 + 1e-6)
    apart = x - p
    slack = radius * np.linalg.norm(apart, dual) - apart @ p
    assert slack <= 1e-5 * radius * max(np.linalg.norm(apart, dual), 1e-30)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("kind", KINDS)
def test_the_l1_projection_is_that_of_the_paper(kind, radius):
    x = lengths(60, kind)
    expected = duchi(x, radius)
    found = projected(L1Ball(radius), x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 * np.abs(x).max())
    # Exact zeros, and no others; but for what is within rounding of the threshold.
    sure = (np.abs(expected) > 1e-5) | (expected == 0)
    np.testing.assert_array_equal((found == 0)[sure], (expected == 0)[sure])
    assert not np.signbit(found[found == 0]).any() or np.array_equal(found, x)


@pytest.mark.parametrize("ball", BALLS)
def test_inside_nothing_changes_and_again_nothing_changes(ball):
    for scale in (1e-30, 1e-4, 1.0):
        x = values(6, 5, scale=scale)
        x[0, 0], x[1, 1] = 0.0, -0.0
        np.testing.assert_array_equal(projected(ball(100.0), x).view("int32"), x.view("int32"))
    once = projected(ball(0.7), values(6, 5))
    np.testing.assert_allclose(projected(ball(0.7), once), once, rtol=3e-7, atol=1e-8)


@pytest.mark.parametrize("ball", BALLS)
def test_no_two_points_move_apart(ball):
    for seed in range(20):
        x, y = values(30, seed=seed), values(30, seed=seed + 100, scale=0.3)
        apart = np.linalg.norm(projected(ball(1.5), x) - projected(ball(1.5), y))
        assert apart <= np.linalg.norm(x - y) * (1 + 1e-6)


@pytest.mark.parametrize("ball", [L1Ball, L2Ball])
@pytest.mark.parametrize(("axis", "shape"), [(0, (5, 4)), (-1, (5, 4)), ([0, 1], (3, 2, 4)), ([0, 1, 2], (2, 3, 2, 4))])
def test_axes_are_those_of_the_norm(ball, axis, shape):
    """Of each slice by itself, some of them inside."""
    x = values(*shape) * np.linspace(0.05, 2.0, shape[-1], dtype="float32")
    found = projected(ball(0.8, axis), x)
    axes = [a % len(shape) for a in (axis if isinstance(axis, list) else [axis])]
    others = [a for a in range(len(shape)) if a not in axes]
    moved = np.transpose(x, [*others, *axes]).reshape(*[shape[a] for a in others], -1)
    got = np.transpose(found, [*others, *axes]).reshape(moved.shape)
    for index in np.ndindex(moved.shape[:-1]):
        np.testing.assert_allclose(got[index], projected(ball(0.8), moved[index]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-25, 1e25, 1e36])
@pytest.mark.parametrize("ball", BALLS)
def test_no_sum_leaves_the_range(ball, scale):
    x, radius = values(50), 3.0
    # A float32, as weights and radius are.
    factor = np.float32(scale)
    expected = projected(ball(radius), x)
    found = projected(ball(radius * float(factor)), x * factor)
    np.testing.assert_allclose(found / factor, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(projected(ball(1.0), x * factor)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("ball", BALLS)
def test_narrow_weights(ball, dtype):
    """Sums beyond the largest float16: 1000 weights near 100."""
    narrow = ops.cast(ops.convert_to_tensor(np.full(1000, 100.0, "float32") + values(1000)), dtype)
    wide = ops.convert_to_numpy(ops.cast(narrow, "float32"))
    found = ball(90.0)(narrow)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    unit = 2.0**-8 if dtype == "bfloat16" else 2.0**-11
    expected = projected(ball(90.0), wide)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(found, "float32")), expected, rtol=unit, atol=1e-4)


@pytest.mark.parametrize("ball", BALLS)
def test_what_is_not_a_number_stays_so_and_ends(ball):
    x = values(5)
    x[2] = np.nan
    assert np.isnan(projected(ball(0.5), x)[2])


def test_keras_shrinks_what_is_inside():
    """The reason for a class beside Keras's: the same weights, after 1000 steps in which they get no gradient."""
    x = theirs = ours = values(20, scale=1e-5)
    max_norm, ball = keras.constraints.MaxNorm(1.0, axis=None), L2Ball(1.0)
    for _ in range(1000):
        theirs, ours = projected(max_norm, theirs), projected(ball, ours)
    np.testing.assert_array_equal(ours, x)
    assert np.abs(theirs).max() < 0.1 * np.abs(x).max()
    large = values(20, scale=1e25)
    assert not np.isfinite(projected(max_norm, large)).all() or not projected(max_norm, large).any()
    assert np.linalg.norm(projected(ball, large)) == pytest.approx(1.0, rel=1e-5)


def regression(samples=60, features=8):
    """Return data of a linear model, most of whose coefficients are 0."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(samples, features))
    return x, x @ np.array([2.0, -1.0, 0.5, *[0.0] * (features - 3)]) + rng.normal(size=samples) * 0.3


def fitted(constraint, x, y, steps, dtype="float32", **arguments):
    """Return the kernel after full-batch steps of fit on half of the mean square."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_constraint=constraint, dtype=dtype)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    # Keras's mean square is twice the data term.
    model.compile(keras.optimizers.SGD(0.15), "mse", **arguments)
    tiled = [np.tile(a.reshape(len(x), -1), (steps, 1)).astype("float32") for a in (x, y)]
    model.fit(*tiled, batch_size=len(x), shuffle=False, epochs=1, verbose=0)
    return ops.convert_to_numpy(layer.kernel)[:, 0]


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.5])
def test_the_solution_is_that_of_the_lasso_with_the_same_sum(alpha):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = regression()
    lasso = linear_model.Lasso(alpha, fit_intercept=False, tol=1e-10, max_iter=100000).fit(x, y).coef_
    found = fitted(L1Ball(np.abs(lasso).sum()), x, y, 400)
    np.testing.assert_allclose(found, lasso, atol=1e-4)
    np.testing.assert_array_equal(found == 0, lasso == 0)
    # The multiplier of the constraint is the weight of the penalty.
    slope = np.abs(x.T @ (y - x @ found)) / len(y)
    np.testing.assert_allclose(slope.max(), alpha, rtol=1e-2)


@pytest.mark.tensorflow
@pytest.mark.parametrize("arguments", [{"jit_compile": True}, {"run_eagerly": True}, {"dtype": "mixed_float16"}])
def test_fit_keeps_zeros_however_it_runs(arguments):
    x, y = regression()
    expected = fitted(L1Ball(2.5), x, y, 40)
    found = fitted(L1Ball(2.5), x, y, 40, **arguments)
    np.testing.assert_allclose(found, expected, atol=2e-2 if "dtype" in arguments else 1e-5)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert (expected == 0).sum() >= 4


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"radius": 0}, ValueError, "expected radius > 0; got radius=0."),
        ({"radius": -1.0}, ValueError, "expected radius > 0; got radius=-1.0"),
        ({"radius": float("inf")}, ValueError, "expected a finite radius; got radius=inf"),
        ({"radius": "1"}, TypeError, "expected a number for radius; got radius='1'"),
    ],
)
def test_bad_radius(ball, arguments, error, message):
    with pytest.raises(error) as raised:
        ball(**arguments)
    assert str(raised.value).startswith(f"{ball.__name__}: {message}")


@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (0.5, TypeError, "L1Ball: expected an integer for axis; got axis=0.5. Pass an integer, a list of them"),
        ([], ValueError, "L1Ball: expected one or more axes, none of them twice; got axis=[]"),
        ([1, 1], ValueError, "L1Ball: expected one or more axes, none of them twice; got axis=[1, 1]"),
    ],
)
def test_bad_axis(axis, error, message):
    with pytest.raises(error) as raised:
        L1Ball(1.0, axis)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("ball", [L1Ball, L2Ball])
@pytest.mark.parametrize("axis", [2, [0, -3]])
def test_an_axis_that_the_weight_lacks(ball, axis):
    with pytest.raises(ValueError, match=rf"{ball.__name__}: expected axes of the weight, from -2 to 1; got axis="):
        ball(1.0, axis)(np.ones((3, 4), "float32"))
