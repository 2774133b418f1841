"""Clipping, Lookahead and averaging around other optimizers, and what is refused."""

import keras
import numpy as np
import pytest
from optimizers.table import SHAPES, apply, arrays, close, numbers, variables

import keras_kicks.optimizers as o
from keras_kicks.models import update_batch_normalization

NAN = [np.full((4, 3), np.nan, "float32"), np.ones(5, "float32")]


def steps_of(optimizer, steps):
    targets = variables(*SHAPES)
    for gradients in steps:
        apply(optimizer, gradients, targets)
    return numbers(targets)


@pytest.mark.parametrize(
    ("by", "limit", "transform"),
    [
        ("global_norm", 0.5, o.ClipByGlobalNorm(0.5)),
        ("norm", 0.5, o.ClipByNorm(0.5)),
        ("value", 0.1, o.ClipByValue(0.1)),
        ("adaptive", 0.05, o.AdaptiveClip(0.05)),
        ("percentile", 40, o.PercentileClip(40)),
    ],
)
def test_clipping_is_the_transform_before_the_optimizer(by, limit, transform):
    steps = arrays(*SHAPES, seed=1, steps=5)
    clipped = o.GradientClipping(keras.optimizers.SGD(0.1, momentum=0.9), by, limit)
    close(steps_of(clipped, steps), steps_of(o.Chain([transform, o.ScaleByMomentum(0.9)], 0.1), steps))
    length = np.sqrt(sum((g**2).sum() for g in steps[-1]))
    np.testing.assert_allclose(clipped.gradient_norm, length, rtol=1e-5)
    assert 0 < clipped.clip_rate <= 1


@pytest.mark.parametrize("inner", [keras.optimizers.Adam, o.Adam])
def test_skipped_steps_leave_everything_and_are_counted(inner):
    steps = arrays(*SHAPES, seed=1, steps=4)
    optimizer = o.GradientClipping(inner(0.1), limit=1.0, non_finite="skip")
    got = steps_of(optimizer, [steps[0], NAN, *steps[1:3], NAN, steps[3]])
    other = o.GradientClipping(inner(0.1), limit=1.0)
    close(got, steps_of(other, steps))
    assert (optimizer.non_finite_steps, int(keras.ops.convert_to_numpy(optimizer.iterations))) == (2, 4)
    assert optimizer.gradient_norm == pytest.approx(other.gradient_norm)


def test_without_a_rule_a_nan_stays():
    assert np.isnan(steps_of(o.GradientClipping(o.SGD(0.1), limit=1.0), [NAN])[0]).all()


def test_an_error_names_the_variable_and_leaves_the_weights():
    optimizer, targets = o.GradientClipping(o.Adam(0.1), limit=1.0, non_finite="raise"), variables(*SHAPES)
    first = numbers(targets)
    with pytest.raises(ValueError, match=r"GradientClipping: expected finite gradients; got variables=\['kernel'\]"):
        apply(optimizer, NAN, targets)
    close(numbers(targets), first, 0)
    apply(optimizer, arrays(*SHAPES, seed=1), targets)
    assert np.isfinite(numbers(targets)[0]).all()


def test_fit_ends_with_that_error():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="named")])
    model.compile(o.GradientClipping(o.Adam(0.1), limit=1.0, non_finite="raise"), "mse", jit_compile="auto")
    if keras.backend.backend() == "tensorflow":
        model.jit_compile = False
    x, y = np.ones((8, 2), "float32"), np.full((8, 1), np.inf, "float32")
    with pytest.raises(Exception, match=r"(?s)expected finite gradients.*named/kernel"):
        model.fit(x, y, batch_size=4, verbose=0)


def test_lookahead_goes_back_half_way():
    steps, fast, path = arrays(*SHAPES, seed=1, steps=6), arrays(*SHAPES), []
    slow = [x.copy() for x in fast]
    optimizer, targets = o.Lookahead(keras.optimizers.SGD(0.1), 3, 0.4), variables(*SHAPES)
    for number, gradients in enumerate(steps, start=1):
        fast = [w - 0.1 * g for w, g in zip(fast, gradients, strict=True)]
        if number % 3 == 0:
            fast = slow = [s + 0.4 * (f - s) for s, f in zip(slow, fast, strict=True)]
        apply(optimizer, gradients, targets)
        path.append(numbers(targets))
        close(path[-1], fast, 1e-5)


def test_lookahead_starts_where_the_model_is():
    """Weights that are loaded after the optimizer was built."""
    steps, targets = arrays(*SHAPES, seed=1, steps=2), variables(*SHAPES, seed=8)
    optimizer = o.Lookahead(o.SGD(0.1), 2)
    optimizer.build(targets)
    for target, value in zip(targets, arrays(*SHAPES), strict=True):
        target.assign(value)
    for gradients in steps:
        apply(optimizer, gradients, targets)
    close(numbers(targets), steps_of(o.Lookahead(o.SGD(0.1), 2), steps))


def test_averages_are_means_and_come_into_place_after_fit():
    steps, path = arrays(*SHAPES, seed=1, steps=7), []
    optimizer, targets = o.StochasticWeightAveraging(o.SGD(0.1), start=3, period=2), variables(*SHAPES)
    for gradients in steps:
        apply(optimizer, gradients, targets)
        path.append(numbers(targets))
    optimizer.finalize_variable_values(targets)
    close(numbers(targets), [np.mean(ws, axis=0) for ws in zip(path[2], path[4], path[6], strict=True)])


def test_frozen_statistics_stay_and_are_not_counted():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.BatchNormalization()])
    model.layers[0].trainable = False
    before = numbers(model.layers[0].weights)
    assert update_batch_normalization(model, arrays((8, 3), seed=2)[0]) == 1
    close(numbers(model.layers[0].weights), before, 0)


def test_statistics_are_made_for_the_averaged_weights():
    x, y = arrays((60, 3), (60, 1), seed=2)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(o.StochasticWeightAveraging(o.SGD(0.1)), "mse")
    model.fit(x, y, batch_size=20, verbose=0)
    hidden, norm = model.layers[:2]
    z = keras.ops.convert_to_numpy(hidden(x))
    stale = keras.ops.convert_to_numpy(norm.moving_mean)
    momentum = norm.momentum
    assert np.abs(stale - z.mean(0)).max() > 1e-2
    assert update_batch_normalization(model, x, batch_size=40) == 1
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm.moving_mean), z.mean(0), rtol=1e-4, atol=1e-5)
    variance = (2 * z[:40].var(0) + z[40:].var(0)) / 3
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm.moving_variance), variance, rtol=1e-4)
    assert norm.momentum == momentum
    batches = [(x[:40], y[:40]), (x[40:], y[40:])]
    assert update_batch_normalization(model, batches) == 1
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm.moving_mean), z.mean(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="at least one batch"):
        update_batch_normalization(model, [])


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ("triangular", [0.1, 0.3, 0.5, 0.3, 0.1, 0.3, 0.5]),
        ("triangular2", [0.1, 0.3, 0.5, 0.3, 0.1, 0.2, 0.3]),
        ("exp_range", [0.1 + 0.4 * x * 0.9**t for t, x in enumerate((0, 0.5, 1, 0.5, 0, 0.5, 1))]),
    ],
)
def test_cyclical_rates(policy, rates):
    schedule = o.CyclicalLearningRate(0.1, 0.5, 2, policy, decay=0.9)
    schedule = o.CyclicalLearningRate.from_config(schedule.get_config())
    got = [float(keras.ops.convert_to_numpy(schedule(step))) for step in range(7)]
    np.testing.assert_allclose(got, rates, rtol=1e-5)


WRONG = {
    "a limit of 0": (lambda: o.ClipByNorm(0.0), ValueError, "ClipByNorm: expected limit > 0; got limit=0.0."),
    "a negative limit": (lambda: o.ClipByValue(-1), ValueError, "ClipByValue: expected limit > 0; got limit=-1."),
    "a limit of NaN": (lambda: o.ClipByGlobalNorm(np.nan), ValueError, "expected a finite limit"),
    "no limit": (lambda: o.GradientClipping("adam"), ValueError, "expected a limit for by='global_norm'"),
    "an unknown rule": (lambda: o.GradientClipping("adam", "size", 1.0), ValueError, "expected by to be one of"),
    "an unknown answer": (lambda: o.GradientClipping("adam", limit=1.0, non_finite="stop"), ValueError, "one of"),
    "a percentile of 101": (lambda: o.GradientClipping("adam", "percentile", 101), ValueError, "<= 100"),
    "a rate of 0": (lambda: o.Adam(0.0), ValueError, "Adam: expected learning_rate > 0; got learning_rate=0.0."),
    "a negative rate": (lambda: o.Chain([o.ScaleByAdam()], -0.1), ValueError, "Chain: expected learning_rate > 0"),
    "a rate of text": (lambda: o.SGD("fast"), TypeError, "SGD: expected a number for learning_rate"),
    "no transforms": (lambda: o.Chain([], 0.1), ValueError, "expected at least one transform"),
    "a transform that is none": (lambda: o.Chain(["adam"], 0.1), TypeError, "Chain: expected transforms"),
    "a function to wrap": (lambda: o.Lookahead(print), TypeError, "Lookahead: expected a Keras optimizer"),
    "a step of 0": (lambda: o.Lookahead("sgd", slow_step_size=0), ValueError, "0 < slow_step_size <= 1"),
    "a period of 0": (lambda: o.StochasticWeightAveraging("sgd", period=0), ValueError, "expected period >= 1"),
    "a scaled inner one": (
        lambda: o.GradientClipping(keras.optimizers.LossScaleOptimizer(o.SGD(0.1)), limit=1.0),
        ValueError,
        r"does not scale the loss; .* Wrap what it wraps: LossScaleOptimizer\(GradientClipping",
    ),
    "momentum of 1": (lambda: o.Momentum(0.1, 1.0), ValueError, "expected 0 <= momentum < 1"),
    "beta_2 of 0.5": (lambda: o.RectifiedAdam(beta_2=0.5), ValueError, "expected beta_2 > 0.6"),
    "an unknown ball": (lambda: o.ConditionalGradient(0.1, 1.0, norm="max"), ValueError, "expected norm to be one of"),
    "a negative norm": (lambda: o.Proximal(l2_norm=-0.1), ValueError, "expected l2_norm >= 0; got l2_norm=-0.1"),
    "paths of one text": (lambda: o.Proximal(0.1, exclude="bias"), TypeError, "expected a list of strings to exclude"),
    "rates upside down": (lambda: o.CyclicalLearningRate(0.5, 0.1, 3), ValueError, "expected 0 < least <= greatest"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    make, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        make()


def test_an_optimizer_in_use_is_not_wrapped():
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables(*SHAPES))
    with pytest.raises(ValueError, match="expected an optimizer that is not in use"):
        o.Lookahead(optimizer)
