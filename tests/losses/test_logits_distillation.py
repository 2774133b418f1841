"""LogitsDistillation against NumPy and torch."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_kicks.losses import LogitsDistillation


def pair(*shape, scale=1.0):
    rng = np.random.default_rng(0)
    return [(scale * rng.normal(size=shape)).astype("float32") for _ in range(2)]


def numpy(loss, *arguments, **named):
    return ops.convert_to_numpy(loss(*arguments, **named))


def softmax(x):
    z = np.asarray(x, "float64")
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
def test_values_are_those_of_the_definition_and_of_torch(temperature, shape):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    teacher, student = pair(*shape)
    got = numpy(LogitsDistillation(temperature), teacher, student)
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    logs = [torch.log_softmax(torch.tensor(x) / temperature, dim=-1) for x in (student, teacher)]
    theirs = torch.nn.KLDivLoss(reduction="none", log_target=True)(*logs).sum(dim=-1) * temperature**2
    np.testing.assert_allclose(got, theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_equal_logits_have_no_loss_and_a_shift_changes_none():
    teacher, student = pair(6, 5)
    np.testing.assert_allclose(numpy(LogitsDistillation(), teacher, teacher + 3), 0, atol=1e-5)
    shifted = numpy(LogitsDistillation(), teacher + 2, student - 5)
    np.testing.assert_allclose(shifted, numpy(LogitsDistillation(), teacher, student), rtol=1e-3, atol=1e-5)


@pytest.mark.tensorflow
def test_a_high_temperature_matches_centred_logits():
    """Hinton et al. 2015, section 2.1: the gradient tends to (z_student - z_teacher) / K with both centred."""
    import tensorflow as tf

    teacher, student = pair(6, 5)
    z = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = tf.reduce_sum(LogitsDistillation(1000.0)(teacher, z))
    centred = [x - x.mean(axis=-1, keepdims=True) for x in (student, teacher)]
    np.testing.assert_allclose(tape.gradient(loss, z).numpy(), (centred[0] - centred[1]) / 5, atol=2e-3)


def test_extreme_logits_are_finite():
    teacher, student = pair(6, 5, scale=1e4)
    assert np.isfinite(numpy(LogitsDistillation(1.0), teacher, student)).all()


def test_one_logit_is_a_binary_classifier():
    teacher, student = pair(6, 1)
    two = [np.concatenate([np.zeros_like(x), x], axis=1) for x in (teacher, student)]
    np.testing.assert_allclose(
        numpy(LogitsDistillation(2.0), teacher, student), numpy(LogitsDistillation(2.0), *two), rtol=1e-5
    )
    sigmoid = [1 / (1 + np.exp(-x)) for x in (teacher, student)]
    got = numpy(LogitsDistillation(2.0, from_logits=False), *sigmoid)
    np.testing.assert_allclose(got, numpy(LogitsDistillation(2.0), *two), rtol=1e-3, atol=1e-6)


def test_probabilities_are_taken_as_such():
    teacher, student = pair(6, 5)
    got = numpy(LogitsDistillation(3.0, from_logits=False), *(softmax(x).astype("float32") for x in (teacher, student)))
    np.testing.assert_allclose(got, numpy(LogitsDistillation(3.0), teacher, student), rtol=1e-3, atol=1e-6)


def test_half_precision_outputs_are_compared_in_float32():
    teacher, student = (x.astype("float16") for x in pair(6, 5))
    got = numpy(LogitsDistillation(), ops.convert_to_tensor(teacher), ops.convert_to_tensor(student))
    wide = numpy(LogitsDistillation(), teacher.astype("float32"), student.astype("float32"))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wide, rtol=1e-5)


def test_a_schedule_gives_the_temperature_of_a_step():
    teacher, student = pair(6, 5)
    loss = LogitsDistillation(keras.optimizers.schedules.PolynomialDecay(4.0, 10, 1.0))
    for step, temperature in ((None, 4.0), (0, 4.0), (5, 2.5), (10, 1.0)):
        expected = numpy(LogitsDistillation(temperature), teacher, student)
        np.testing.assert_allclose(numpy(loss, teacher, student, step=step), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": 0}, ValueError, "expected temperature > 0; got temperature=0."),
        (
            {"temperature": "hot"},
            TypeError,
            "expected a number for temperature; got temperature='hot'. Pass a",
        ),
        ({"teacher_index": 0.5}, TypeError, "expected an integer for teacher_index; got teacher_index=0.5."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"LogitsDistillation: {message}")):
        LogitsDistillation(**arguments)


@pytest.mark.parametrize(("teacher", "student"), [((6, 5), (6, 4)), ((6, 2, 5), (6, 5))])
def test_outputs_that_cannot_be_compared_are_refused(teacher, student):
    message = "LogitsDistillation: expected outputs of the same rank with the same, known number of classes; got"
    with pytest.raises(ValueError, match=re.escape(message)):
        LogitsDistillation()(np.zeros(teacher), np.zeros(student))
