"""FeatureDistillation: distances, and the projection that it owns."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import FeatureDistillation


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_distance_is_that_of_the_projected_features():
    teacher, student = features(4, 3, 5), features(4, 3, 2, seed=1)
    loss = FeatureDistillation("mae")
    got = ops.convert_to_numpy(loss(teacher, student))
    kernel, bias = (ops.convert_to_numpy(w) for w in loss.trainable_weights)
    assert kernel.shape == (2, 5)
    np.testing.assert_allclose(got, np.abs(teacher - (student @ kernel + bias)).mean(axis=-1), rtol=1e-5)


@pytest.mark.parametrize(
    "loss", ["mse", keras.losses.MeanSquaredError(), lambda a, b: ops.mean(ops.square(a - b), axis=-1)]
)
def test_a_loss_is_named_or_given(loss):
    teacher, student = features(4, 3, 5), features(4, 3, 5, seed=1)
    got = ops.convert_to_numpy(FeatureDistillation(loss)(teacher, student))
    np.testing.assert_allclose(got, ((teacher - student) ** 2).mean(axis=-1), rtol=1e-5)


def test_cosine_similarity_is_a_loss():
    teacher, student = features(4, 5), features(4, 5, seed=1)
    got = ops.convert_to_numpy(FeatureDistillation("cosine_similarity")(teacher, student))
    norms = np.linalg.norm(teacher, axis=-1) * np.linalg.norm(student, axis=-1)
    np.testing.assert_allclose(got, -(teacher * student).sum(axis=-1) / norms, rtol=1e-4)


@pytest.mark.parametrize(
    ("projection", "channels", "weights"), [("auto", 5, 0), ("auto", 3, 2), ("always", 5, 2), ("never", 5, 0)]
)
def test_there_is_a_projection_where_it_is_asked_for(projection, channels, weights):
    loss = FeatureDistillation(projection=projection)
    loss(features(4, 5), features(4, channels))
    assert len(loss.trainable_weights) == weights


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": 3}, TypeError, "expected the name of a loss, a loss or a function; got loss=3."),
        ({"projection": "yes"}, ValueError, "expected projection to be one of 'auto', 'always', 'never'; got"),
        ({"teacher_layer_name": 3}, TypeError, "expected a layer's name or None for teacher_layer_name; got"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"FeatureDistillation: {message}")):
        FeatureDistillation(**arguments)


@pytest.mark.parametrize(
    ("arguments", "teacher", "student", "message"),
    [
        (
            {},
            (4, 3, 5),
            (4, 2, 5),
            "expected features of the same shape but for known numbers of channels; got",
        ),
        ({}, (4, 5), (4, 2, 5), "expected features of the same shape but for known numbers of channels; got"),
        ({"projection": "never"}, (4, 5), (4, 3), 'expected the same channels for projection="never"; got teacher='),
    ],
)
def test_features_that_cannot_be_compared_are_refused(arguments, teacher, student, message):
    with pytest.raises(ValueError, match=re.escape(f"FeatureDistillation: {message}")):
        FeatureDistillation(**arguments)(features(*teacher), features(*student))


def test_a_projection_serves_teachers_of_one_width():
    loss = FeatureDistillation()
    loss.build((None, 5), (None, 3))
    with pytest.raises(ValueError, match="the 5 channels that the projection was built for"):
        loss.check((None, 6), (None, 3))
