"""What transforms do to gradients, against NumPy."""

import keras
import numpy as np
import pytest
from optimizers.table import apply, arrays, numbers, variables

import keras_kicks.optimizers as o

SHAPES = (4, 3), (5,), (2, 3, 4)


def updates(transform, gradients, steps=1):
    """What a chain of this transform subtracts, in the last of some steps with the same gradients."""
    targets, chain = variables(*SHAPES), o.Chain([transform], 1.0)
    for _ in range(steps):
        before = numbers(targets)
        apply(chain, gradients, targets)
    return [a - b for a, b in zip(before, numbers(targets), strict=True)], chain


def close(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def length(tensors):
    return np.sqrt(sum((np.asarray(x, "float64") ** 2).sum() for x in tensors))


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_global_norm(limit):
    gradients = arrays(*SHAPES, seed=1)
    got, chain = updates(o.ClipByGlobalNorm(limit), gradients, steps=3)
    close(got, [g * min(1, limit / length(gradients)) for g in gradients])
    state = chain.state_of(0)
    np.testing.assert_allclose(state["norm"].numpy(), length(gradients), rtol=1e-5)
    assert (int(state["clipped"].numpy()), int(state["steps"].numpy())) == (3 if limit < 1 else 0, 3)


def test_norm_of_each_variable():
    gradients = arrays(*SHAPES, seed=1)
    got, chain = updates(o.ClipByNorm(2.5), gradients)
    close(got, [g * min(1, 2.5 / length([g])) for g in gradients])
    assert any(length([g]) < 2.5 for g in gradients)
    assert int(chain.state_of(0)["clipped"].numpy()) == 1


def test_value():
    gradients = arrays(*SHAPES, seed=1)
    close(updates(o.ClipByValue(0.5), gradients)[0], [np.clip(g, -0.5, 0.5) for g in gradients])


def test_adaptive_clip_looks_at_units():
    gradients, weights = arrays(*SHAPES, seed=1), arrays(*SHAPES)
    expected = []
    for g, w in zip(gradients, weights, strict=True):
        axes = tuple(range(g.ndim - 1)) if g.ndim > 1 else None
        size, room = (np.sqrt((x**2).sum(axes, keepdims=True)) for x in (g, w))
        room = 0.9 * np.maximum(room, 1e-3)
        expected.append(np.where(size > room, room / size * g, g))
    close(updates(o.AdaptiveClip(0.9), gradients)[0], expected)
    expected[1] = gradients[1]
    close(updates(o.AdaptiveClip(0.9, exclude=["bias"]), gradients)[0], expected)


def test_percentile_clip_is_numpys_percentile_of_the_last_norms():
    targets, chain = variables(*SHAPES), o.Chain([o.PercentileClip(30, history=4)], 1.0)
    norms = []
    for step, gradients in enumerate(arrays(*SHAPES, seed=1, steps=7)):
        gradients = [g * (1 + step % 3) for g in gradients]
        norms.append(length(gradients))
        before = numbers(targets)
        apply(chain, gradients, targets)
        limit = np.percentile(norms[-4:], 30)
        np.testing.assert_allclose(chain.state_of(0)["limit"].numpy(), limit, rtol=1e-5)
        close(
            [a - b for a, b in zip(before, numbers(targets), strict=True)],
            [g * min(1, limit / norms[-1]) for g in gradients],
        )


def test_centralized_gradients_have_no_mean():
    gradients = arrays(*SHAPES, seed=1)
    expected = [g - g.mean(tuple(range(g.ndim - 1)), keepdims=True) if g.ndim > 1 else g for g in gradients]
    close(updates(o.CentralizeGradient(), gradients)[0], expected)


def test_noise_fades_and_is_independent_between_steps_and_variables():
    shape, chain = (300, 200), o.Chain([o.GradientNoise(0.04, 0.5, seed=3)], 1.0)
    targets, draws = variables(shape, shape), []
    for step in range(4):
        before = numbers(targets)
        apply(chain, [np.zeros(shape, "float32")] * 2, targets)
        draws += [a - b for a, b in zip(before, numbers(targets), strict=True)]
        for draw in draws[-2:]:
            np.testing.assert_allclose(draw.std(), np.sqrt(0.04 / (1 + step) ** 0.5), rtol=0.02)
    correlations = np.corrcoef([draw.ravel() for draw in draws]) - np.eye(8)
    assert np.abs(correlations).max() < 0.02


def test_noise_is_that_of_the_seed():
    draws = [updates(o.GradientNoise(1.0, seed=seed), arrays(*SHAPES, seed=1))[0][0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 0.1


def test_decay_spares_what_is_excluded():
    gradients, weights = arrays(*SHAPES, seed=1), arrays(*SHAPES)
    got = updates(o.AddDecayedWeights(0.5, exclude=["bias"]), gradients)[0]
    close(got, [g + 0.5 * w * (i != 1) for i, (g, w) in enumerate(zip(gradients, weights, strict=True))])


@pytest.mark.parametrize(
    ("scaling", "rate"),
    [(None, 0.02), (o.ScaleByAdaGrad(0.1), 0.5), (o.ScaleByRMSProp(0.99), 0.02), (o.ScaleByAdam(), 0.02)],
)
def test_proximal_chains_solve_the_lasso(scaling, rate):
    """Where the loss is |w - b|^2 / 2, the solution is b, moved towards zero by l1."""
    b = np.asarray([-1.0, -0.2, 0.0, 0.15, 0.7], "float32")
    w = keras.Variable(np.ones(5, "float32"))
    chain = o.Chain([*([scaling] if scaling else []), o.Proximal(0.3)], rate)
    for _ in range(1500):
        apply(chain, [numbers([w])[0] - b], [w])
    expected = np.sign(b) * np.maximum(np.abs(b) - 0.3, 0)
    np.testing.assert_allclose(*numbers([w]), expected, atol=0.03 if scaling else 1e-4)
    assert ((numbers([w])[0] == 0) == (expected == 0)).all()


@pytest.mark.parametrize(
    ("scaling", "rate"), [(None, 0.1), (o.ScaleByAdaGrad(0.1), 0.5), (o.ScaleByRMSProp(0.99), 0.02)]
)
@pytest.mark.parametrize("share", [0.4, 1.3])
def test_proximal_chains_make_whole_variables_zero(scaling, rate, share):
    """Where the loss is |w - b|^2 / 2, the solution is b, shortened by l2_norm; 0 if it is no longer than that."""
    b = np.asarray([-1.0, -0.2, 0.0, 0.15, 0.7], "float32")
    w, weight = keras.Variable(np.ones(5, "float32")), share * float(length([b]))
    chain = o.Chain([*([scaling] if scaling else []), o.Proximal(l2_norm=weight)], rate)
    for _ in range(300):
        apply(chain, [numbers([w])[0] - b], [w])
    np.testing.assert_allclose(*numbers([w]), b * max(1 - share, 0), atol=0.03 if scaling else 1e-4)
    assert (numbers([w])[0] != 0).any() == (share < 1)


def test_conditional_gradient_stays_in_the_ball_and_finds_its_point():
    target, w = np.asarray([3.0, 4.0], "float32"), keras.Variable(np.zeros(2, "float32"))
    optimizer = o.ConditionalGradient(lambda: 2.0 / (keras.ops.cast(optimizer.iterations, "float32") + 2), limit=1.0)
    for _ in range(200):
        apply(optimizer, [numbers([w])[0] - target], [w])
        assert np.linalg.norm(numbers([w])[0]) <= 1 + 1e-5
    np.testing.assert_allclose(*numbers([w]), target / 5, atol=1e-2)


def test_transforms_are_applied_in_their_order():
    gradients = arrays((4, 3), seed=1)
    results = []
    for chain in ([o.ClipByValue(0.1), o.ScaleByMomentum(0.9)], [o.ScaleByMomentum(0.9), o.ClipByValue(0.1)]):
        targets = variables((4, 3))
        optimizer = o.Chain(chain, 1.0)
        for _ in range(3):
            apply(optimizer, gradients, targets)
        results.append(np.abs(numbers(targets)[0] - arrays((4, 3))[0]).max())
    np.testing.assert_allclose(results[0], 0.1 * (1 + 1.9 + 2.71), rtol=1e-4)
    np.testing.assert_allclose(results[1], 0.3, rtol=1e-4)
