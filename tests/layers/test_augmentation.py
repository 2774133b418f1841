"""Augmentation layers: what they do to values, to padding, on replicas and in half precision."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks import layers
from keras_kicks.ops.keras_mask import set_mask

MAKERS = {
    "VectorNoise": lambda **kwargs: layers.VectorNoise(0.3, seed=3, **kwargs),
    "VectorNoise-uniform": lambda **kwargs: layers.VectorNoise(0.3, "uniform", seed=3, **kwargs),
    "SwapNoise": lambda **kwargs: layers.SwapNoise(0.5, seed=3, **kwargs),
    "SequenceScaling": lambda **kwargs: layers.SequenceScaling(0.3, seed=3, **kwargs),
    "TimeMask": lambda **kwargs: layers.TimeMask(4, 2, seed=3, **kwargs),
    "TimeWarp": lambda **kwargs: layers.TimeWarp(0.8, seed=3, **kwargs),
}
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
RNG = np.random.default_rng


def run(layer, x, mask=None, training=True):
    """Return what a layer makes of an array, whose mask hangs on it."""
    x = ops.convert_to_tensor(x)
    if mask is not None:
        set_mask(x, ops.convert_to_tensor(mask))
    return ops.convert_to_numpy(layer(x, training=training))


def sequences(batch=5, steps=9, features=3):
    """Return different numbers everywhere, and a mask with padding behind, before, between, everywhere and nowhere."""
    x = RNG(0).permutation(batch * steps * features).reshape(batch, steps, features).astype("float32") + 1
    mask = np.ones((batch, steps), bool)
    mask[0, 6:] = mask[1, :4] = mask[2, 2:7:2] = mask[3] = False
    return x, mask


@EACH
def test_inference_changes_nothing(make):
    x, _ = sequences()
    np.testing.assert_array_equal(run(make(), x, training=False), x)


@EACH
def test_padding_stays_and_has_no_part_in_the_rest(make):
    x, mask = sequences()
    other = np.where(mask[..., None], x, -1000 - x)
    first, second = run(make(), x, mask), run(make(), other, mask)
    np.testing.assert_array_equal(first[~mask], x[~mask])
    np.testing.assert_array_equal(first[mask], second[mask])
    assert np.any(first[mask] != x[mask])


@EACH
def test_a_model_behind_masking_leaves_zeros(make):
    x, mask = sequences()
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), make()])
    y = ops.convert_to_numpy(model(np.where(mask[..., None], x, 0), training=True))
    assert np.all(y[~mask] == 0)
    assert np.any(y[mask] != x[mask])


@pytest.mark.parametrize("name", ["TimeMask", "TimeWarp"])
def test_padding_anywhere_is_as_no_padding(name):
    """The steps that count become what they would be in a sequence of their own."""
    x, mask = sequences()
    for row in (0, 1, 2, 4):
        kept = mask[row]
        alone = run(MAKERS[name](), x[row : row + 1, kept])
        padded = run(MAKERS[name](), x[row : row + 1], mask[row : row + 1])
        np.testing.assert_array_equal(padded[0, kept], alone[0])


@EACH
def test_draws_differ_by_call_and_repeat_by_seed(make):
    x, _ = sequences(50)
    layer, same = make(), make()
    first, second = run(layer, x), run(layer, x)
    assert np.any(first != second)
    np.testing.assert_array_equal(run(same, x), first)


@EACH
def test_half_precision_rounds_once(make):
    """Draws and sums are those of float32."""
    x = RNG(0).normal(size=(6, 9, 3)).astype("float16")
    wide = run(make(dtype="float32"), x.astype("float32"))
    np.testing.assert_array_equal(run(make(dtype="mixed_float16"), x), wide.astype("float16"))


@pytest.mark.tensorflow
@EACH
def test_replicas_draw_their_own(make, strategy):
    import tensorflow as tf

    x = tf.constant(sequences(200)[0])
    with strategy.scope():
        layer = make()
        layer.build(x.shape)

    @tf.function
    def step():
        return strategy.run(lambda: layer(x, training=True))

    first, second = (y.numpy() for y in strategy.experimental_local_results(step()))
    changed = [np.any(y != x.numpy(), axis=(1, 2)) for y in (first, second)]
    for rows in changed:
        assert rows.mean() > 0.8
    # As good as no sample is changed in the same way on both.
    both = changed[0] & changed[1]
    assert np.all(first[both] == second[both], axis=(1, 2)).mean() < 0.1


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_noise_has_the_scale_of_each_feature(distribution):
    scale = np.array([0.5, 0.0, 2.0])
    n = 40_000
    noise = run(layers.VectorNoise(scale, distribution, seed=1), np.zeros((n, 3), "float32"))
    assert np.all(noise[:, 1] == 0)
    for j in (0, 2):
        standard = np.sort(noise[:, j] / scale[j])
        # Moments within 5 standard errors; the fourth tells a normal (3) from a uniform one (1.8).
        assert abs(standard.mean()) < 5 / np.sqrt(n)
        assert abs(standard.var() - 1) < 5 * np.sqrt(2 / n)
        assert abs((standard**4).mean() - {"normal": 3, "uniform": 1.8}[distribution]) < 5 * np.sqrt(96 / n)
        if distribution == "uniform":
            assert np.abs(standard).max() < np.sqrt(3)
            assert np.abs(standard).max() > 1.72
    assert abs(np.corrcoef(noise[:, 0], noise[:, 2])[0, 1]) < 5 / np.sqrt(n)


def test_swapped_features_come_from_other_rows():
    n, rate = 4000, np.array([0.3, 0.0, 1.0])
    x = np.arange(3 * n).reshape(n, 3)
    y = run(layers.SwapNoise(rate, seed=1), x)
    assert y.dtype.kind == "i"
    donors, column = y // 3, y % 3
    assert np.all(column == [0, 1, 2])
    swapped = donors != np.arange(n)[:, None]
    # Never the own row: what is swapped at rate 1 is swapped everywhere.
    np.testing.assert_array_equal(swapped[:, 1:].mean(axis=0), [0, 1])
    assert abs(swapped[:, 0].mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)
    # Distances to the donor are uniform on 1 ... n - 1 (chi-square of ten bins with 9 degrees of freedom).
    ahead = (donors[:, 2] - np.arange(n)) % n
    counts = np.histogram(ahead, bins=10, range=(1, n))[0]
    assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 50
    assert abs(np.corrcoef(donors[swapped[:, 0]][:, 0], donors[swapped[:, 0]][:, 2])[0, 1]) < 5 / np.sqrt(0.3 * n)


def test_two_rows_swap_with_each_other_and_one_stays():
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    np.testing.assert_array_equal(run(layers.SwapNoise(1.0), x), x[::-1])
    np.testing.assert_array_equal(run(layers.SwapNoise(1.0), x[:1]), x[:1])
    mask = np.array([[True, False], [True, False]])
    padded = np.stack([x, 10 * x], axis=1)
    np.testing.assert_array_equal(run(layers.SwapNoise(1.0), padded, mask)[:, 0], x[::-1])


def test_scaling_is_one_factor_for_all_steps():
    x = RNG(0).normal(size=(4000, 5, 2)).astype("float32")
    for per_feature in (True, False):
        factor = run(layers.SequenceScaling(0.2, per_feature, seed=1), x) / x
        np.testing.assert_allclose(factor, np.broadcast_to(factor[:, :1], x.shape), rtol=1e-4)
        first, second = factor[:, 0].T
        assert abs(first.mean() - 1) < 5 * 0.2 / np.sqrt(len(x))
        assert abs(first.std() - 0.2) < 5 * 0.2 / np.sqrt(2 * len(x))
        assert abs(np.corrcoef(first, second)[0, 1] - (not per_feature)) < 5 / np.sqrt(len(x))


def test_spans_are_uniform_in_width_and_place():
    """All widths are as likely as the others, and all places of a width: counted against the definition."""
    n, steps, widest = 20_000, 6, 3
    y = run(layers.TimeMask(5, max_share=0.5, value=-7.0, seed=1), np.ones((n, steps, 1), "float32"))[..., 0]
    assert set(np.unique(y)) == {-7.0, 1.0}
    found, counts = np.unique(y == -7, axis=0, return_counts=True)
    expected = {}
    for width in range(widest + 1):
        for start in range(steps - width + 1):
            span = tuple(start <= t < start + width for t in range(steps))
            expected[span] = expected.get(span, 0) + 1 / (widest + 1) / (steps - width + 1)
    assert {tuple(map(bool, row)) for row in found} == set(expected)
    for row, count in zip(found, counts, strict=True):
        share = expected[tuple(map(bool, row))]
        assert abs(count / n - share) < 5 * np.sqrt(share / n)


def test_several_spans_are_independent():
    y = run(layers.TimeMask(1, count=2, seed=1), np.ones((20_000, 10, 1), "float32"))[..., 0]
    blank = (y == 0).sum(axis=1)
    # Each of two spans is of width 1 half of the time, and they meet in one of ten steps.
    for number, share in ((0, 1 / 4), (1, 1 / 2 + 1 / 40), (2, 9 / 40)):
        assert abs((blank == number).mean() - share) < 5 * np.sqrt(share / len(y))


def times(n, samples, deviation, knots, rng):
    """Return warped times of n steps by the definition."""
    speeds = np.exp(deviation * rng.normal(size=(samples, knots)))
    places = np.linspace(0, knots - 1, n)
    v = np.stack([np.interp(places, np.arange(knots), row) for row in speeds])
    c = np.concatenate([np.zeros((samples, 1)), np.cumsum((v[:, 1:] + v[:, :-1]) / 2, axis=1)], axis=1)
    return c / c[:, -1:] * (n - 1)


def test_warped_times_are_distributed_as_by_the_definition():
    n, samples = 11, 4000
    ramp = np.broadcast_to(np.arange(n, dtype="float32")[None, :, None], (samples, n, 1))
    got = run(layers.TimeWarp(0.7, knots=3, seed=1), ramp)[..., 0]
    expected = times(n, samples, 0.7, 3, RNG(5))
    assert np.all(got[:, 0] == 0)
    np.testing.assert_allclose(got[:, -1], n - 1, rtol=1e-6)
    assert np.all(np.diff(got, axis=1) > 0)
    for t in range(1, n - 1):
        # Kolmogorov and Smirnov's distance of two samples, for p = 1e-6.
        values = np.sort(np.concatenate([got[:, t], expected[:, t]]))
        shares = [np.searchsorted(np.sort(x[:, t]), values, "right") / samples for x in (got, expected)]
        assert np.abs(shares[0] - shares[1]).max() < np.sqrt(-np.log(1e-6 / 2) / samples)
    # Steps that follow each other are warped together.
    np.testing.assert_allclose(np.corrcoef(got[:, 1:-1].T), np.corrcoef(expected[:, 1:-1].T), atol=0.1)


def test_all_features_run_together_and_are_linear_between_steps():
    x = RNG(0).normal(size=(3, 8, 2)).astype("float32")
    x = np.concatenate([x, np.broadcast_to(np.arange(8, dtype="float32")[None, :, None], (3, 8, 1))], axis=-1)
    y = run(layers.TimeWarp(0.8, seed=2), x)
    for row, got in zip(x, y, strict=True):
        for j in range(2):
            np.testing.assert_allclose(got[:, j], np.interp(got[:, 2], np.arange(8), row[:, j]), atol=1e-5)


def test_short_sequences_are_left_alone():
    for steps in (1, 2):
        x = RNG(0).normal(size=(4, steps, 3)).astype("float32")
        np.testing.assert_array_equal(run(layers.TimeWarp(2.0, seed=1), x), x)
    x, mask = np.ones((2, 4, 1), "float32"), np.zeros((2, 4), bool)
    for make in MAKERS.values():
        np.testing.assert_array_equal(run(make(), x, mask), x)


def test_sequences_of_pictures_are_taken_too():
    x = RNG(0).normal(size=(2, 6, 4, 5, 3)).astype("float32")
    mask = np.array([[True] * 6, [True] * 3 + [False] * 3])
    for make in MAKERS.values():
        y = run(make(), x, mask)
        assert y.shape == x.shape
        np.testing.assert_array_equal(y[~mask], x[~mask])
    warped = run(MAKERS["TimeWarp"](), x)
    flat = run(MAKERS["TimeWarp"](), x.reshape(2, 6, -1))
    np.testing.assert_array_equal(warped.reshape(2, 6, -1), flat)


REFUSED = [
    (lambda: layers.VectorNoise(-1), ValueError, "VectorNoise: expected scale >= 0; got scale=-1."),
    (lambda: layers.VectorNoise([0.1, -0.2]), ValueError, "VectorNoise: expected scale >= 0; got scale=-0.2."),
    (lambda: layers.VectorNoise("a"), TypeError, "VectorNoise: expected a number for scale; got scale='a'."),
    (lambda: layers.VectorNoise(float("nan")), ValueError, "VectorNoise: expected a finite scale; got scale=nan."),
    (lambda: layers.VectorNoise(0.1, "laplace"), ValueError, "VectorNoise: expected distribution to be one of"),
    (lambda: layers.SwapNoise(1.5), ValueError, "SwapNoise: expected 0 <= rate <= 1; got rate=1.5."),
    (lambda: layers.SwapNoise(0.5, seed=0.5), TypeError, "SwapNoise: expected an integer for seed; got seed=0.5."),
    (lambda: layers.SequenceScaling(-0.1), ValueError, "SequenceScaling: expected deviation >= 0; got deviation=-0.1."),
    (lambda: layers.TimeMask(0), ValueError, "TimeMask: expected max_width >= 1; got max_width=0."),
    (lambda: layers.TimeMask(2, 0), ValueError, "TimeMask: expected count >= 1; got count=0."),
    (lambda: layers.TimeMask(2, max_share=0), ValueError, "TimeMask: expected 0 < max_share <= 1; got max_share=0."),
    (lambda: layers.TimeMask(2.5), TypeError, "TimeMask: expected an integer for max_width; got max_width=2.5."),
    (lambda: layers.TimeWarp(-1), ValueError, "TimeWarp: expected deviation >= 0; got deviation=-1."),
    (lambda: layers.TimeWarp(0.1, 1), ValueError, "TimeWarp: expected knots >= 2; got knots=1."),
    (
        lambda: layers.VectorNoise([0.1, 0.2])(np.ones((2, 3), "float32")),
        ValueError,
        "VectorNoise: expected one scale or one for each feature; got features=3, given=[0.1, 0.2].",
    ),
    (
        lambda: layers.VectorNoise(0.1)(np.ones(3, "float32")),
        ValueError,
        "VectorNoise: expected inputs of shape (batch, ..., features); got shape=(3,).",
    ),
    (
        lambda: layers.TimeWarp()(np.ones((2, 3), "float32")),
        ValueError,
        "TimeWarp: expected inputs of shape (batch, steps, features); got shape=(2, 3).",
    ),
    (
        lambda: layers.VectorNoise(0.1)(np.ones((2, 3), "int32")),
        TypeError,
        "VectorNoise: expected floating inputs; got dtype='int32'. Cast them; for ids of categories use SwapNoise.",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
