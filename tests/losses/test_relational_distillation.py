"""RelationalDistillation against loops over pairs and triples."""

import itertools
import re

import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import RelationalDistillation


def embeddings(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def by_loops(teacher, student, distance_weight=25.0, angle_weight=50.0):
    """Equations 4 to 9 of the paper, as means over the relations that each sample is in."""
    n = len(teacher)
    means, losses = [], np.zeros(n)
    for x in (teacher, student):
        means.append(np.mean([np.linalg.norm(x[i] - x[j]) for i, j in itertools.permutations(range(n), 2)]))

    def distance(x, mean, i, j):
        return np.linalg.norm(x[i] - x[j]) / mean

    def angle(x, i, j, k):
        a, b = x[i] - x[j], x[k] - x[j]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for j in range(n):
        others = [i for i in range(n) if i != j]
        pairs = [huber(distance(teacher, means[0], i, j) - distance(student, means[1], i, j)) for i in others]
        triples = [
            huber(angle(teacher, i, j, k) - angle(student, i, j, k)) for i, k in itertools.permutations(others, 2)
        ]
        losses[j] = distance_weight * np.mean(pairs) + angle_weight * np.mean(triples)
    return losses


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 0.0), (0.0, 1.0), (25.0, 50.0)])
def test_values_are_those_of_loops(distance, angle):
    teacher, student = embeddings(6, 4), 3 * embeddings(6, 3, seed=1)
    got = ops.convert_to_numpy(RelationalDistillation(None, None, distance, angle)(teacher, student))
    expected = by_loops(teacher.astype("float64"), student.astype("float64"), distance, angle)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_feature_maps_are_flattened():
    teacher, student = embeddings(5, 2, 3), embeddings(5, 4, seed=1)
    got = RelationalDistillation()(teacher, student)
    flat = RelationalDistillation()(teacher.reshape(5, 6), student)
    np.testing.assert_allclose(ops.convert_to_numpy(got), ops.convert_to_numpy(flat), rtol=1e-6)


def test_relations_survive_rotation_shift_and_scale():
    teacher = embeddings(6, 4)
    rotation = np.linalg.qr(embeddings(4, 4, seed=2))[0]
    student = (5 * teacher @ rotation + 7).astype("float32")
    np.testing.assert_allclose(ops.convert_to_numpy(RelationalDistillation()(teacher, student)), 0, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_scale_of_embeddings_does_not_count(scale):
    teacher, student = embeddings(6, 4), embeddings(6, 3, seed=1)
    expected = ops.convert_to_numpy(RelationalDistillation()(teacher, student))
    got = ops.convert_to_numpy(RelationalDistillation()(teacher, (scale * student).astype("float32")))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_a_sample_without_weight_is_as_good_as_absent():
    teacher, student = embeddings(6, 4), embeddings(6, 3, seed=1)
    weight = np.array([1, 1, 0, 1, 0, 1], "float32")
    kept = weight > 0
    got = RelationalDistillation()(teacher, student, sample_weight=weight)
    expected = RelationalDistillation()(teacher[kept], student[kept])
    np.testing.assert_allclose(ops.convert_to_numpy(got)[kept], ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2])
def test_batches_without_triples_or_pairs_are_finite(n):
    got = RelationalDistillation()(embeddings(n, 4), embeddings(n, 3, seed=1))
    assert np.isfinite(ops.convert_to_numpy(got)).all()


@pytest.mark.tensorflow
def test_equal_samples_have_a_finite_gradient():
    import tensorflow as tf

    teacher, student = embeddings(5, 4), embeddings(5, 3, seed=1)
    teacher[1], student[1] = teacher[0], student[0]
    z = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = tf.reduce_sum(RelationalDistillation()(teacher, z))
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, z).numpy()).all()


@pytest.mark.tensorflow
def test_replicas_relate_the_samples_of_all(strategy):
    import tensorflow as tf

    teacher, student = embeddings(8, 4), embeddings(8, 3, seed=1)
    weight = np.linspace(0, 2, 8).astype("float32")
    with strategy.scope():
        loss = RelationalDistillation()
        loss.build((None, 4), (None, 3))
    expected = loss(teacher, student, sample_weight=weight).numpy()
    dataset = tf.data.Dataset.from_tensors((teacher, student, weight)).unbatch().batch(8)
    (batch,) = strategy.experimental_distribute_dataset(dataset)

    @tf.function
    def step(batch):
        return strategy.run(lambda t, s, w: loss(t, s, sample_weight=w), args=batch)

    got = np.concatenate([values.numpy() for values in strategy.experimental_local_results(step(batch))])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"distance_weight": -1.0}, ValueError, "expected distance_weight >= 0 and angle_weight >= 0, not both 0; got"),
        ({"distance_weight": 0, "angle_weight": 0}, ValueError, "expected distance_weight >= 0 and angle_weight >= 0,"),
        ({"angle_weight": "1"}, TypeError, "expected a number for angle_weight; got angle_weight='1'."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"RelationalDistillation: {message}")):
        RelationalDistillation(**arguments)


def test_numbers_without_an_embedding_are_refused():
    message = "RelationalDistillation: expected embeddings of rank 2 or more; got teacher=(4,), student=(4, 2)."
    with pytest.raises(ValueError, match=re.escape(message)):
        RelationalDistillation()(ops.ones(4), ops.ones((4, 2)))
