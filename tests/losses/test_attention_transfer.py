"""AttentionTransfer against NumPy and torch."""

import re

import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import AttentionTransfer


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def by_numpy(teacher, student, power=2.0):
    maps = []
    for x in (teacher, student):
        energy = (np.abs(x.astype("float64")) ** power).sum(axis=-1).reshape(len(x), -1)
        maps.append(energy / np.linalg.norm(energy, axis=1, keepdims=True))
    return ((maps[0] - maps[1]) ** 2).sum(axis=1)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.5])
@pytest.mark.parametrize(("teacher", "student"), [((4, 6, 3), (4, 6, 5)), ((4, 3, 5, 2), (4, 3, 5, 2))])
def test_values_are_those_of_the_definition(power, teacher, student):
    teacher, student = features(*teacher), features(*student, seed=1)
    got = ops.convert_to_numpy(AttentionTransfer(power=power)(teacher, student))
    np.testing.assert_allclose(got, by_numpy(teacher, student, power), rtol=1e-4)


@pytest.mark.parametrize(("fine", "coarse"), [((8, 8), (4, 4)), ((9, 6), (3, 3)), ((6, 4), (3, 4))])
def test_a_finer_map_is_averaged_as_by_torch(fine, coarse):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    teacher, student = features(2, *fine, 3), features(2, *coarse, 5, seed=1)
    energy = torch.tensor(teacher).pow(2).sum(dim=-1)
    averaged = torch.nn.functional.adaptive_avg_pool2d(energy, coarse).sqrt()[..., None].numpy()
    for a, b in ((teacher, student), (student, teacher)):
        got = ops.convert_to_numpy(AttentionTransfer()(a, b))
        np.testing.assert_allclose(got, by_numpy(averaged, student), rtol=1e-4)


def test_a_map_keeps_its_mean_at_any_resolution():
    """Five cells over three: every position counts once in all, so that a constant map stays constant."""
    teacher, student = np.ones((1, 5, 5, 2), "float32"), np.ones((1, 3, 3, 4), "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(AttentionTransfer()(teacher, student)), 0, atol=1e-6)


def test_the_scale_of_features_does_not_count():
    teacher, student = features(4, 3, 3, 2), features(4, 3, 3, 5, seed=1)
    expected = ops.convert_to_numpy(AttentionTransfer()(teacher, student))
    got = ops.convert_to_numpy(AttentionTransfer()(1000 * teacher, 0.01 * student))
    np.testing.assert_allclose(got, expected, rtol=1e-3)
    assert got.min() >= 0
    assert got.max() <= 2


@pytest.mark.tensorflow
def test_features_without_energy_have_a_finite_gradient():
    import tensorflow as tf

    student = tf.zeros((2, 3, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = tf.reduce_sum(AttentionTransfer()(features(2, 3, 3, 2), student))
    assert np.isfinite(tape.gradient(loss, student).numpy()).all()


@pytest.mark.parametrize(("power", "error"), [(0, ValueError), (-1.0, ValueError), ("2", TypeError)])
def test_a_wrong_power_is_refused(power, error):
    with pytest.raises(error, match=r"AttentionTransfer: expected (power > 0|a number for power); got power="):
        AttentionTransfer(power=power)


@pytest.mark.parametrize(("teacher", "student"), [((4, 5), (4, 5)), ((4, 6, 3), (4, 5, 3)), ((4, 3, 3, 2), (4, 9, 2))])
def test_features_that_cannot_be_compared_are_refused(teacher, student):
    message = "AttentionTransfer: expected features of the same rank, 3 (then with as many positions) or 4; got"
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionTransfer()(features(*teacher), features(*student))
