"""What the distiller trains, against a loop written by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import AttentionTransfer, FeatureDistillation, LogitsDistillation, RelationalDistillation
from keras_kicks.models import Distiller

pytestmark = pytest.mark.tensorflow

CLASSES, WIDTH = 3, 6


def data(n=32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, WIDTH)).astype("float32"), rng.integers(0, CLASSES, n)


def classifier(width, name, regularizer=None, dropout=0.0, norm=False):
    layers = [keras.layers.Dense(width, activation="tanh", name="features", kernel_regularizer=regularizer)]
    layers += [keras.layers.BatchNormalization()] if norm else []
    layers += [keras.layers.Dropout(dropout, seed=3)] if dropout else []
    return keras.Sequential([keras.Input((WIDTH,)), *layers, keras.layers.Dense(CLASSES)], name=name)


def make(losses=None, teacher=None, student=None, optimizer=None, compiled=None, **arguments):
    teacher = teacher or classifier(8, "teacher")
    student = student or classifier(4, "student")
    distiller = Distiller(teacher, student, losses or LogitsDistillation(2.0), **arguments)
    compiled = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "jit_compile": False} | (
        compiled or {}
    )
    distiller.compile(optimizer or keras.optimizers.SGD(0.2), **compiled)
    return distiller


def softened(x, temperature):
    z = np.asarray(x, "float64") / temperature
    z = z - z.max(axis=-1, keepdims=True)
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def step_by_hand(distiller, x, y, rate, weight=None, temperature=2.0, share=0.5, l2=0.0):
    """Return what one SGD step makes of the student's last layer and its regularized first kernel's loss.

    The gradient of the last layer is written out: features^T (w (q - onehot) + (1 - w) T (q_T - p_T)) / n.
    """
    teacher, student = distiller.teacher, distiller.student
    weight = np.ones(len(x)) if weight is None else weight
    features = ops.convert_to_numpy(student.get_layer("features")(x)).astype("float64")
    z = ops.convert_to_numpy(student(x))
    p = softened(ops.convert_to_numpy(teacher(x)), temperature)
    hard = softened(z, 1.0) - np.eye(CLASSES)[y]
    soft = temperature * (softened(z, temperature) - p)
    delta = (share * hard + (1 - share) * soft) * weight[:, None] / len(x)
    kernel, bias = (ops.convert_to_numpy(v).astype("float64") for v in student.layers[-1].weights)
    return kernel - rate * features.T @ delta, bias - rate * delta.sum(axis=0)


@pytest.mark.parametrize("how", [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}])
def test_step_is_the_one_by_hand(how):
    x, y = data()
    distiller = make(compiled=how)
    expected = step_by_hand(distiller, x, y, 0.2)
    distiller.fit(x, y, batch_size=32, verbose=0)
    for got, value in zip(distiller.student.layers[-1].get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-6)


def test_sample_weight_counts_in_both_losses():
    x, y = data()
    weight = np.random.default_rng(1).random(32).astype("float32")
    distiller = make(student_loss_weight=0.3)
    expected = step_by_hand(distiller, x, y, 0.2, weight, share=0.3)
    distiller.fit(x, y, batch_size=32, sample_weight=weight, verbose=0)
    for got, value in zip(distiller.student.layers[-1].get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-6)


def test_class_weight_counts_in_both_losses():
    x, y = data()
    weights = {0: 0.5, 1: 2.0, 2: 0.0}
    distiller = make()
    expected = step_by_hand(distiller, x, y, 0.2, np.array([weights[label] for label in y]))
    distiller.fit(x, y, batch_size=32, class_weight=weights, verbose=0)
    for got, value in zip(distiller.student.layers[-1].get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", [AttentionTransfer, RelationalDistillation])
def test_sample_of_weight_zero_teaches_nothing(loss):
    """The gradient is that of the batch without the sample, up to the mean over the batch."""
    x, y = data(8)

    def trained(x, y, weight, rate):
        keras.utils.set_random_seed(2)
        images = [keras.Input((WIDTH,)), keras.layers.Reshape((2, 3, 1)), keras.layers.Conv2D(2, 1, name="map")]
        tail = [keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
        teacher, student = keras.Sequential([*images, *tail]), None
        teacher = keras.models.clone_model(teacher)
        student = keras.models.clone_model(teacher)
        distiller = make([loss("map", "map")], teacher, student, keras.optimizers.SGD(rate), student_loss_weight=0.0)
        distiller.fit(x, y, sample_weight=weight, batch_size=len(x), verbose=0)
        return [w.numpy() for w in student.weights]

    weighted = trained(x, y, np.array([1.0] * 6 + [0.0] * 2, "float32"), 0.8)
    alone = trained(x[:6], y[:6], None, 0.6)
    for a, b in zip(weighted, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_regularizers_are_trained_once():
    x, y = data()
    distiller = make(student=classifier(4, "student", regularizer=keras.regularizers.L2(0.1)))
    plain = make(student=keras.models.clone_model(classifier(4, "student")), teacher=distiller.teacher)
    plain.student.set_weights(distiller.student.get_weights())
    kernel = distiller.student.get_layer("features").get_weights()[0]
    for model in (distiller, plain):
        model.fit(x, y, batch_size=32, verbose=0)
    got, other = (model.student.get_layer("features").get_weights()[0] for model in (distiller, plain))
    np.testing.assert_allclose(got - other, -0.2 * 2 * 0.1 * kernel, rtol=1e-3, atol=1e-6)


def test_reported_loss_is_made_of_the_reported_parts():
    x, y = data(40)
    distiller = make(student=classifier(4, "student", regularizer="l2"), student_loss_weight=0.3)
    results = distiller.evaluate(x, y, batch_size=16, verbose=0, return_dict=True)
    penalty = float(sum(distiller.student.losses))
    total = 0.3 * results["hard_loss"] + 0.7 * results["soft_loss"] + penalty
    np.testing.assert_allclose(results["loss"], total, rtol=1e-5)
    z = ops.convert_to_numpy(distiller.student(x))
    crossentropy = -np.log(softened(z, 1.0)[np.arange(40), y]).mean()
    np.testing.assert_allclose(results["hard_loss"], crossentropy, rtol=1e-5)
    p, q = softened(ops.convert_to_numpy(distiller.teacher(x)), 2.0), softened(z, 2.0)
    np.testing.assert_allclose(results["soft_loss"], 4 * (p * np.log(p / q)).sum(axis=-1).mean(), rtol=1e-4)
    same = z.argmax(axis=-1) == p.argmax(axis=-1)
    np.testing.assert_allclose(results["agreement"], same.mean(), rtol=1e-6)


def test_weights_of_losses_and_of_teachers_add_up():
    x, y = data()
    teachers = [classifier(8, "first"), classifier(5, "second")]
    losses = [LogitsDistillation(1.0), LogitsDistillation(4.0, teacher_index=1)]
    arguments = {"distillation_loss_weights": [2.0, 0.25], "teacher_weights": [3.0, 1.0], "student_loss_weight": 0.0}
    distiller = make(losses, teachers, **arguments)
    got = distiller.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    z = ops.convert_to_numpy(distiller.student(x))

    def divergence(teacher, t):
        p, q = softened(ops.convert_to_numpy(teacher(x)), t), softened(z, t)
        return t * t * (p * np.log(p / q)).sum(axis=-1).mean()

    first = 0.75 * divergence(teachers[0], 1.0) + 0.25 * divergence(teachers[1], 1.0)
    np.testing.assert_allclose(got, 2.0 * first + 0.25 * divergence(teachers[1], 4.0), rtol=1e-4)
    mean = 0.75 * ops.convert_to_numpy(teachers[0](x)) + 0.25 * ops.convert_to_numpy(teachers[1](x))
    agreement = distiller.evaluate(x, y, verbose=0, return_dict=True)["agreement"]
    np.testing.assert_allclose(agreement, (mean.argmax(axis=-1) == z.argmax(axis=-1)).mean(), rtol=1e-6)


def test_labels_are_not_needed_for_soft_targets_alone():
    x, _ = data()
    distiller = make(student_loss_weight=0.0, compiled={"loss": None})
    history = distiller.fit(x, batch_size=16, epochs=30, verbose=0).history
    assert "hard_loss" not in history
    assert history["soft_loss"][-1] < 0.5 * history["soft_loss"][0]


def test_regression_reports_no_agreement():
    x, _ = data()
    teacher = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(1)])
    student = keras.models.clone_model(teacher)
    distiller = make([FeatureDistillation("mse")], teacher, student, compiled={"loss": "mse"})
    assert "agreement" not in distiller.fit(x, x[:, :1], verbose=0).history


def test_temperature_schedule_follows_the_training_steps():
    x, y = data()
    schedule = keras.optimizers.schedules.PolynomialDecay(4.0, 4, 1.0)
    distiller = make(LogitsDistillation(schedule))
    for step in range(3):
        expected = step_by_hand(distiller, x, y, 0.2, temperature=4.0 - 3.0 * step / 4)
        distiller.evaluate(x, y, verbose=0)
        distiller.fit(x, y, batch_size=32, verbose=0)
        for got, value in zip(distiller.student.layers[-1].get_weights(), expected, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-6)
    assert int(distiller.train_steps) == 3


def test_projection_is_trained_and_belongs_to_the_distiller():
    x, y = data()
    loss = FeatureDistillation("mse", "features", "features")
    distiller = make(loss)
    before = [w.numpy() for w in loss.trainable_weights]
    assert [w.shape for w in loss.trainable_weights] == [(4, 8), (8,)]
    distiller.fit(x, y, verbose=0)
    assert all(np.abs(w.numpy() - b).max() > 0 for w, b in zip(loss.trainable_weights, before, strict=True))
    assert {id(w) for w in loss.weights} <= {id(w) for w in distiller.trainable_weights}
    assert distiller.student.count_params() == classifier(4, "other").count_params()


class Counting(keras.layers.Layer):
    """Counts its calls by value of `training`, on the machine itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    def call(self, inputs, training=None):
        self.calls.append(training)
        return inputs


def test_each_model_runs_once_in_a_step():
    counters = Counting(), Counting()
    models = [
        keras.Sequential(
            [keras.Input((WIDTH,)), counter, keras.layers.Dense(4, name="features"), keras.layers.Dense(3)]
        )
        for counter in counters
    ]
    x, y = data()
    losses = [LogitsDistillation(), FeatureDistillation("mse", "features", "features"), RelationalDistillation()]
    distiller = make(losses, *models, compiled={"run_eagerly": True})
    for counter in counters:
        counter.calls.clear()
    distiller.fit(x, y, batch_size=16, verbose=0)
    teacher, student = counters
    # Keras itself builds the metrics of a model by one symbolic step before the first.
    assert student.calls.count(True) in (2, 3)
    assert len(teacher.calls) == len(student.calls)
    assert not any(teacher.calls)


def test_teacher_is_untouched():
    x, y = data()
    teacher = classifier(8, "teacher", dropout=0.5, norm=True)
    before = [w.numpy() for w in teacher.variables]
    flags = [layer.trainable for layer in teacher.layers]
    distiller = make([LogitsDistillation(), FeatureDistillation("mse", "features", "features")], teacher)
    distiller.fit(x, y, epochs=2, verbose=0)
    assert teacher.trainable
    assert [layer.trainable for layer in teacher.layers] == flags
    for weight, old in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    held = {id(v) for v in distiller.variables}
    assert not held & {id(v) for v in teacher.variables}
    assert teacher not in distiller.layers


def test_evaluate_changes_no_state():
    x, y = data()
    student = classifier(4, "student", dropout=0.5, norm=True)
    distiller = make([LogitsDistillation(), FeatureDistillation("mse", "features", "features")], student=student)
    distiller.fit(x, y, verbose=0)
    metrics = {id(v) for metric in distiller.metrics for v in metric.variables}
    kept = [v for v in distiller.variables if id(v) not in metrics]
    before = [v.numpy() for v in kept]
    first = distiller.evaluate(x, y, verbose=0)
    assert first == distiller.evaluate(x, y, verbose=0)
    distiller.predict(x, verbose=0)
    for variable, old in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_agreement_rises_as_the_student_learns():
    x, y = data(128)
    distiller = make(student_loss_weight=0.0, optimizer=keras.optimizers.Adam(0.02))
    history = distiller.fit(x, y, epochs=40, verbose=0).history
    assert history["agreement"][-1] > 0.9 > history["agreement"][0]
