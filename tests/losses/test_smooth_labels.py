"""smooth_labels: targets for any loss."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import LabelSmoothingCrossentropy, smooth_labels

IDS = np.random.default_rng(1).integers(0, 4, 50)


def numpy(*arguments, **named):
    return ops.convert_to_numpy(smooth_labels(*arguments, **named))


@pytest.mark.parametrize("y", [IDS, np.eye(4, dtype="float32")[IDS]])
def test_uniform_and_prior_targets_are_those_of_the_definition(y):
    named = {"num_classes": 4} if y.ndim == 1 else {}
    one_hot, prior = np.eye(4)[IDS], [0.4, 0.3, 0.2, 0.1]
    np.testing.assert_allclose(numpy(y, 0.2, **named), 0.8 * one_hot + 0.05, rtol=1e-6)
    expected = 0.8 * one_hot + 0.2 * np.array(prior)
    np.testing.assert_allclose(numpy(y, 0.2, "prior", prior, **named), expected, rtol=1e-6)


def test_any_loss_takes_them():
    z = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(smooth_labels(IDS, 0.3, num_classes=4), z)
    assert float(loss) == pytest.approx(float(LabelSmoothingCrossentropy(0.3)(IDS, z)), rel=1e-5)


def test_random_noise_is_uniform_on_the_simplex():
    """The moments of a flat Dirichlet distribution: mean 1/K, variance (K - 1) / (K^2 (K + 1)), within 5 errors."""
    n, classes, alpha = 20_000, 4, 0.5
    targets = numpy(np.zeros(n, "int32"), alpha, "random", num_classes=classes, seed=3)
    noise = (targets - (1 - alpha) * np.eye(classes)[0]) / alpha
    assert noise.min() >= -1e-6
    np.testing.assert_allclose(noise.sum(axis=1), 1, rtol=1e-5)
    variance = (classes - 1) / (classes**2 * (classes + 1))
    assert np.abs(noise.mean(axis=0) - 1 / classes).max() < 5 * np.sqrt(variance / n)
    np.testing.assert_allclose(noise.var(axis=0), variance, rtol=0.05)
    # P(one weight > t) = (1 - t)^(K - 1).
    assert (noise[:, 0] > 0.5).mean() == pytest.approx(0.5 ** (classes - 1), abs=5 * np.sqrt(0.125 / n))


def test_seeds():
    """An integer draws the same, a generator goes on, and None takes Keras's own state."""
    arguments = (IDS, 0.5, "random", None, 4)
    np.testing.assert_array_equal(numpy(*arguments, seed=1), numpy(*arguments, seed=1))
    assert np.any(numpy(*arguments, seed=1) != numpy(*arguments, seed=2))
    generator = keras.random.SeedGenerator(1)
    assert np.any(numpy(*arguments, seed=generator) != numpy(*arguments, seed=generator))
    assert np.any(numpy(*arguments) != numpy(*arguments))


@pytest.mark.tensorflow
def test_a_dataset_maps_it():
    import tensorflow as tf

    generator = keras.random.SeedGenerator(1)
    dataset = tf.data.Dataset.from_tensor_slices(IDS).batch(25)
    dataset = dataset.map(lambda y: smooth_labels(y, 0.5, "random", num_classes=4, seed=generator))
    first, second = (targets.numpy() for targets in dataset)
    np.testing.assert_allclose(np.concatenate([first, second]).sum(axis=1), 1, rtol=1e-5)
    assert np.any(first[IDS[:25] == IDS[0]][0] != second[IDS[25:] == IDS[0]][0])


def test_an_id_outside_the_classes_is_no_number():
    targets = numpy(np.array([0, 4, -1, 2**31 - 1]), num_classes=4)
    assert np.isnan(targets).all(axis=1).tolist() == [False, True, True, True]


@pytest.mark.tensorflow
def test_an_id_too_large_for_int32_does_not_wrap_around():
    assert np.isnan(numpy(np.array([2**32]), num_classes=4)).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 1.0}, ValueError, "expected 0 <= alpha < 1; got alpha=1.0."),
        ({"alpha": None}, TypeError, "expected a number for alpha; got alpha=None."),
        ({"noise": "x"}, ValueError, "expected noise to be one of 'uniform', 'prior', 'random'; got noise='x'."),
        ({"num_classes": 1}, ValueError, "expected 2 classes or more; got num_classes=1."),
        ({"num_classes": 2.5}, TypeError, "expected an integer for num_classes; got num_classes=2.5."),
        ({"noise": "prior", "class_prior": [0.5, 0.5]}, ValueError, "expected an entry of class_prior for each class;"),
        ({"class_prior": [1.0]}, ValueError, 'expected class_prior with noise="prior" alone;'),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"smooth_labels: {message}")):
        smooth_labels(IDS, **{"num_classes": 4, **arguments})
