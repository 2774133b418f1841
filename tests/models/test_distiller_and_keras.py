"""Where `keras.distillation.Distiller` goes wrong, ours does not; and what it takes, ours takes."""

import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller

pytestmark = pytest.mark.tensorflow

CLASSES, WIDTH = 3, 6


def data(n=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, WIDTH)).astype("float32"), rng.integers(0, CLASSES, n)


def classifier(width, norm=False, regularizer=None):
    layers = [keras.layers.Dense(width, name="features", kernel_regularizer=regularizer)]
    layers += [keras.layers.BatchNormalization()] if norm else []
    return keras.Sequential([keras.Input((WIDTH,)), *layers, keras.layers.Dense(CLASSES)])


def compiled(teacher, student, losses, optimizer="sgd", **arguments):
    distiller = Distiller(teacher, student, losses, **arguments)
    distiller.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return distiller


def soft_loss(distiller, x, y, **arguments):
    return distiller.evaluate(x, y, verbose=0, return_dict=True, **arguments)["soft_loss"]


def test_positive_logits_that_differ_have_a_loss():
    """Keras's default takes the divergence of raw logits, clipped as if they were probabilities: 0 here."""
    teacher, student = np.array([[5.0, 2.0, 3.0]], "float32"), np.array([[2.0, 5.0, 3.0]], "float32")
    theirs = keras.distillation.LogitsDistillation(temperature=1.0)
    assert float(theirs.compute_loss(ops.convert_to_tensor(teacher), ops.convert_to_tensor(student))) == 0.0
    p = np.exp(teacher) / np.exp(teacher).sum()
    q = np.exp(student) / np.exp(student).sum()
    got = LogitsDistillation(1.0)(teacher, student)
    np.testing.assert_allclose(ops.convert_to_numpy(got)[0], (p * np.log(p / q)).sum(), rtol=1e-5)


@pytest.mark.parametrize("loss", ["kl_divergence", keras.losses.KLDivergence(), None])
def test_their_logits_distillation_is_taken_and_right(loss):
    x, y = data()
    arguments = {} if loss is None else {"loss": loss}
    theirs = keras.distillation.LogitsDistillation(temperature=4.0, **arguments)
    teacher, student = classifier(8), classifier(4)
    got = soft_loss(compiled(teacher, student, theirs), x, y)
    np.testing.assert_allclose(got, soft_loss(compiled(teacher, student, LogitsDistillation(4.0)), x, y), rtol=1e-6)


def test_their_feature_distillation_is_taken():
    x, y = data()
    teacher, student = classifier(4), classifier(4)
    theirs = keras.distillation.FeatureDistillation("mse", "features", "features")
    difference = teacher.get_layer("features")(x) - student.get_layer("features")(x)
    got = soft_loss(compiled(teacher, student, [theirs]), x, y)
    np.testing.assert_allclose(got, float(ops.mean(ops.square(difference))), rtol=1e-5)


class MeanGap(keras.distillation.DistillationLoss):
    """A loss of a user, for Keras's distiller."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return ops.square(ops.mean(teacher_outputs) - ops.mean(student_outputs))


def test_a_users_loss_for_keras_is_taken():
    x, y = data()
    teacher, student = classifier(8), classifier(4)
    gap = float(ops.mean(teacher(x)) - ops.mean(student(x)))
    np.testing.assert_allclose(soft_loss(compiled(teacher, student, MeanGap()), x, y), gap**2, rtol=1e-4)


def test_evaluate_with_features_leaves_batch_normalization_alone():
    """Keras's distiller runs its feature extractor with training=True in evaluate."""
    x, y = data()
    student = classifier(4, norm=True)
    distiller = compiled(classifier(8), student, FeatureDistillation("mse", "features", "features"))
    before = [w.numpy() for w in student.non_trainable_weights]
    distiller.evaluate(x, y, verbose=0)
    for weight, old in zip(student.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_statistics_move_once_in_a_step():
    """A student that runs twice in a step, as Keras's does with features, moves them twice."""
    x, y = data()
    student = classifier(4, norm=True)
    layer = student.layers[1]
    mean = student.get_layer("features")(x).numpy().mean(axis=0)
    distiller = compiled(classifier(8), student, FeatureDistillation("mse", "features", "features"))
    distiller.fit(x, y, batch_size=16, verbose=0)
    np.testing.assert_allclose(layer.moving_mean.numpy(), (1 - layer.momentum) * mean, rtol=1e-4, atol=1e-6)


def test_sample_weight_is_not_ignored():
    x, y = data()
    teacher, student = classifier(8), classifier(4)
    distiller = compiled(teacher, student, LogitsDistillation())
    first = soft_loss(distiller, x[:8], y[:8])
    weight = np.array([1.0] * 8 + [0.0] * 8, "float32")
    np.testing.assert_allclose(soft_loss(distiller, x, y, sample_weight=weight, batch_size=16), first / 2, rtol=1e-5)


def test_regularizers_are_not_dropped():
    x, y = data()
    student = classifier(4, regularizer="l2")
    distiller = compiled(classifier(8), student, LogitsDistillation(), student_loss_weight=0.25)
    results = distiller.evaluate(x, y, verbose=0, return_dict=True)
    penalty = 0.01 * float((student.get_layer("features").kernel.numpy() ** 2).sum())
    parts = 0.25 * results["hard_loss"] + 0.75 * results["soft_loss"]
    np.testing.assert_allclose(results["loss"] - parts, penalty, rtol=1e-4)


def test_a_loss_given_by_name_is_scaled_to_the_replicas(strategy):
    x, y = data()

    def trained():
        keras.utils.set_random_seed(3)
        teacher, student = classifier(8), classifier(4)
        losses = [LogitsDistillation(), FeatureDistillation("mae", "features", "features")]
        distiller = compiled(teacher, student, losses, keras.optimizers.SGD(0.5))
        weight = np.random.default_rng(4).random(16).astype("float32")
        history = distiller.fit(x, y, batch_size=8, epochs=2, shuffle=False, sample_weight=weight, verbose=0).history
        return [w.numpy() for w in distiller.trainable_weights], history

    alone, expected = trained()
    with strategy.scope():
        shared, got = trained()
    for a, b in zip(shared, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5)


def test_the_file_holds_the_optimizer_and_no_teacher(tmp_path):
    x, y = data()
    teacher = classifier(3000)
    distiller = compiled(teacher, classifier(4), LogitsDistillation(), "adam")
    distiller.fit(x, y, verbose=0)
    path = tmp_path / "distiller.keras"
    distiller.save(path)
    loaded = keras.saving.load_model(path)
    assert len(loaded.optimizer.variables) == len(distiller.optimizer.variables)
    for a, b in zip(loaded.optimizer.variables, distiller.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("model.weights.h5").file_size < 3000 * (WIDTH + CLASSES) * 4


def test_masked_positions_count_in_neither_loss():
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (4, 5))
    tokens[:, 3:] = 0

    def tagger():
        layers = [keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.LSTM(4, return_sequences=True)]
        return keras.Sequential([keras.Input((None,), dtype="int32"), *layers, keras.layers.Dense(CLASSES)])

    teacher, student = tagger(), tagger()
    distiller = compiled(teacher, student, [LogitsDistillation(2.0), FeatureDistillation("mse")])
    labels = rng.integers(0, CLASSES, (4, 5))
    padded = distiller.evaluate(tokens, labels, verbose=0, return_dict=True)
    short = distiller.evaluate(tokens[:, :3], labels[:, :3], verbose=0, return_dict=True)
    assert padded.keys() == short.keys()
    for name, value in short.items():
        np.testing.assert_allclose(padded[name], value, rtol=1e-5)


def test_several_outputs_are_named():
    x, y = data()

    def model():
        inputs = keras.Input((WIDTH,))
        hidden = keras.layers.Dense(4)(inputs)
        outputs = {"a": keras.layers.Dense(CLASSES, name="a")(hidden), "b": keras.layers.Dense(2, name="b")(hidden)}
        return keras.Model(inputs, outputs)

    teacher, student = model(), model()
    distiller = Distiller(teacher, student, LogitsDistillation(1.0, output="b"), student_loss_weight=0.5)
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", {"a": crossentropy, "b": crossentropy})
    labels = {"a": y, "b": y % 2}
    weight = {"a": np.ones(16, "float32"), "b": np.full(16, 0.5, "float32")}
    got = distiller.evaluate(x, labels, sample_weight=weight, verbose=0, return_dict=True, batch_size=16)
    p, q = (ops.softmax(net(x)["b"]).numpy() for net in (teacher, student))
    np.testing.assert_allclose(got["soft_loss"], 0.5 * (p * np.log(p / q)).sum(axis=-1).mean(), rtol=1e-4)
    distiller.fit(x, labels, verbose=0)


def test_float16_students_train_with_a_scaled_loss():
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    teacher, student = classifier(8), classifier(4)
    keras.config.set_dtype_policy("float32")
    distiller = compiled(teacher, student, LogitsDistillation(), keras.optimizers.SGD(0.1))
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    before = [w.numpy() for w in student.trainable_weights]
    history = distiller.fit(x, y, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.abs(w.numpy() - b).max() > 0 for w, b in zip(student.trainable_weights, before, strict=True))


class Subclassed(keras.Model):
    """A model without symbolic inputs."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        return self.dense(inputs)


def test_subclassed_models_are_compared_by_their_outputs():
    x, y = data()
    distiller = compiled(Subclassed(), Subclassed(), [LogitsDistillation(), FeatureDistillation("mse")])
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert distiller.export_student() is distiller.student
