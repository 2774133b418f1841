"""What a distiller refuses, and that its message says who, what was expected, what came, and what to do."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_kicks.losses import AttentionTransfer, FeatureDistillation, LogitsDistillation
from keras_kicks.models import Distiller

pytestmark = pytest.mark.tensorflow

WIDTH, CLASSES = 6, 3


def seq(*stack, inputs=(WIDTH,)):
    return keras.Sequential([keras.Input(inputs), *stack])


def net(width=4):
    return seq(layers.Dense(width, name="features"), layers.Dense(CLASSES))


def two_headed():
    inputs = keras.Input((WIDTH,))
    hidden = layers.Dense(4)(inputs)
    heads = {"a": layers.Dense(CLASSES)(hidden), "b": layers.Dense(CLASSES, activation="softmax")(hidden)}
    return keras.Model(inputs, heads)


def used_twice():
    inputs, layer = keras.Input((WIDTH,)), layers.Dense(WIDTH, name="features")
    return keras.Model(inputs, layers.Dense(CLASSES)(layer(layer(inputs))))


def with_state():
    inputs = keras.Input((4, WIDTH))
    outputs, state, _ = layers.LSTM(3, return_state=True, name="features")(inputs)
    return keras.Model(inputs, layers.Dense(CLASSES)(outputs + state))


class Unnamed(keras.Model):
    """A model without symbolic inputs."""

    def __init__(self, units=CLASSES):
        super().__init__()
        self.dense = layers.Dense(units)

    def call(self, inputs):
        return self.dense(inputs)

    def build(self, input_shape):
        self.dense.build(input_shape)


def features(teacher="features", student="features", **arguments):
    return FeatureDistillation("mse", teacher, student, **arguments)


def probable(activation, units=CLASSES):
    return seq(layers.Dense(units, activation=activation))


LOSS = "a keras_kicks.losses.DistillationLoss or a keras.distillation.DistillationLoss; got distillation_losses="
KINDS = {
    "student": (lambda: {"student": 3}, "a keras model as student; got student=3"),
    "student_class": (lambda: {"student": keras.Sequential}, "a keras model as student; got student=<class"),
    "teacher": (lambda: {"teacher": "net"}, "a keras model or a list of them as teacher; got teacher='net'"),
    "no_teachers": (lambda: {"teacher": []}, "a keras model or a list of them as teacher; got teacher=[]"),
    "one_teacher": (lambda: {"teacher": [net(), None]}, "a keras model or a list of them as teacher; got teacher=["),
    "loss_name": (lambda: {"distillation_losses": "mse"}, LOSS + "'mse'"),
    "loss_class": (lambda: {"distillation_losses": LogitsDistillation}, LOSS + "<class"),
    "keras_loss": (lambda: {"distillation_losses": [keras.losses.MeanSquaredError()]}, LOSS),
    "share": (lambda: {"student_loss_weight": "1"}, "a number for student_loss_weight; got student_loss_weight='1'"),
    "share_bool": (lambda: {"student_loss_weight": True}, "a number for student_loss_weight; got "),
    "loss_weight": (lambda: {"distillation_loss_weights": [None]}, "a number for distillation_loss_weights; got "),
    "teacher_weight": (lambda: {"teacher_weights": ["a"]}, "a number for teacher_weights; got teacher_weights='a'"),
}
VALUES = {
    "no_losses": (lambda: {"distillation_losses": []}, "a distillation loss or a list of them; got "),
    "share_below": (
        lambda: {"student_loss_weight": -0.1},
        "0 <= student_loss_weight <= 1; got student_loss_weight=-0.1",
    ),
    "share_above": (lambda: {"student_loss_weight": 1.5}, "0 <= student_loss_weight <= 1; got student_loss_weight=1.5"),
    "share_nan": (lambda: {"student_loss_weight": float("nan")}, "a finite student_loss_weight; got "),
    "loss_weights": (lambda: {"distillation_loss_weights": [1, 2]}, "1 distillation_loss_weights; got "),
    "loss_weight": (lambda: {"distillation_loss_weights": -1}, "distillation_loss_weights >= 0; got "),
    "loss_weight_inf": (
        lambda: {"distillation_loss_weights": float("inf")},
        "a finite distillation_loss_weights; got ",
    ),
    "teacher_weights": (lambda: {"teacher_weights": [1, 2]}, "1 teacher_weights; got teacher_weights=[1, 2]"),
    "teacher_weight": (lambda: {"teacher_weights": [-1]}, "teacher_weights >= 0; got teacher_weights=[-1]"),
    "teacher_weight_0": (
        lambda: {"teacher_weights": 0},
        "a positive weight for one teacher; got teacher_weights=[0.0]",
    ),
    "inputs": (
        lambda: {"teacher": [net(), seq(layers.Dense(CLASSES), inputs=(5,))]},
        "teachers and a student that take inputs of the same shape; got teacher=[(None, 5)], student=[(None, 6)]",
    ),
    "input_ranks": (
        lambda: {"teacher": seq(layers.Flatten(), layers.Dense(CLASSES), inputs=(WIDTH, 1))},
        "teachers and a student that take inputs of the same shape; got teacher=[(None, 6, 1)]",
    ),
    "teacher_layer": (
        lambda: {"distillation_losses": features("hidden")},
        "the name of a layer of the teacher; got layer_name='hidden'. It has features, ",
    ),
    "student_layer": (
        lambda: {"distillation_losses": features(student="hidden")},
        "the name of a layer of the student; got layer_name='hidden'. It has features, ",
    ),
    "layer_of_subclass": (
        lambda: {"teacher": Unnamed(), "distillation_losses": features("dense")},
        "a Functional or a built Sequential teacher, to name a layer of; got teacher='unnamed",
    ),
    "layer_used_twice": (
        lambda: {"student": used_twice(), "distillation_losses": features()},
        "a layer of the student that is used once; got layer_name='features', uses=2. Name another layer.",
    ),
    "layer_of_several_outputs": (
        lambda: {"teacher": with_state(), "student": with_state(), "distillation_losses": features()},
        "a layer of the student with one output; got layer_name='features', outputs=3. Name another layer.",
    ),
    "teacher_index": (
        lambda: {"distillation_losses": [LogitsDistillation(), LogitsDistillation(teacher_index=1)]},
        "the index of a teacher; got teacher_index=1, teachers=1",
    ),
    "negative_index": (
        lambda: {"distillation_losses": features(teacher_index=-1)},
        "the index of a teacher; got teacher_index=-1, teachers=1",
    ),
    "softmax": (lambda: {"teacher": probable("softmax")}, "logits from the teacher; got teacher='sequential"),
    "sigmoid": (
        lambda: {"teacher": probable(None, 1), "student": probable("sigmoid", 1)},
        "logits from the student; got student='sequential",
    ),
    "softmax_inside": (
        lambda: {"student": seq(seq(layers.Dense(CLASSES), layers.Softmax()))},
        "activation='softmax'. Remove the activation, or use LogitsDistillation(from_logits=False).",
    ),
    "softmax_in_time": (
        lambda: {
            "teacher": seq(layers.TimeDistributed(layers.Dense(3, activation="softmax")), inputs=(4, 2)),
            "student": seq(layers.Dense(3), inputs=(4, 2)),
        },
        "logits from the teacher; got teacher='sequential",
    ),
    "head_of_softmax": (
        lambda: {
            "teacher": two_headed(),
            "student": two_headed(),
            "distillation_losses": LogitsDistillation(output="b"),
        },
        "logits from the student; got student='functional",
    ),
    "no_head": (
        lambda: {"teacher": two_headed(), "student": two_headed()},
        "one output of the student for logits_distillation; got outputs=2. Give it `output`, and one loss for each",
    ),
    "unknown_head": (
        lambda: {"teacher": two_headed(), "student": two_headed(), "distillation_losses": LogitsDistillation(output=0)},
        "an output of the student for logits_distillation; got output=0",
    ),
    "head_of_one": (
        lambda: {"distillation_losses": LogitsDistillation(output=0)},
        "an output of the student for logits_distillation; got output=0. The student has one output: leave ",
    ),
}
CANNOT_MATCH = {
    "classes": (lambda: {"teacher": seq(layers.Dense(4))}, "LogitsDistillation: expected outputs of the same rank"),
    "channels": (
        lambda: {"teacher": net(8), "distillation_losses": features(projection="never")},
        'FeatureDistillation: expected the same channels for projection="never"; got teacher=(None, 8), student=',
    ),
    "two_widths": (
        lambda: {"teacher": [net(8), net(5)], "distillation_losses": features()},
        "FeatureDistillation: expected the 8 channels that the projection was built for; got teacher=(None, 5)",
    ),
    "no_map": (
        lambda: {"distillation_losses": AttentionTransfer("features", "features")},
        "AttentionTransfer: expected features of the same rank, 3 ",
    ),
}


def construct(arguments):
    return Distiller(**{"teacher": net(8), "student": net(), "distillation_losses": LogitsDistillation(), **arguments})


def message_of(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("case", KINDS)
def test_wrong_kinds_are_refused(case):
    arguments, message = KINDS[case]
    assert message_of(TypeError, lambda: construct(arguments())).startswith("Distiller: expected " + message)


@pytest.mark.parametrize("case", VALUES)
def test_wrong_values_are_refused(case):
    arguments, message = VALUES[case]
    got = message_of(ValueError, lambda: construct(arguments()))
    assert got.startswith("Distiller: expected ")
    assert message in got


@pytest.mark.parametrize("case", CANNOT_MATCH)
def test_outputs_that_cannot_be_compared_are_refused(case):
    arguments, message = CANNOT_MATCH[case]
    assert message_of(ValueError, lambda: construct(arguments())).startswith(message)


def looks_of(model):
    return model.get_config(), [layer.trainable for layer in model.layers], model.compiled, len(model.variables)


def test_failed_construction_changes_neither_models_nor_losses():
    teacher, student, loss = net(8), net(), features()
    before = [looks_of(model) for model in (teacher, student)]
    weights = [w.numpy() for model in (teacher, student) for w in model.weights]
    misfit = features(projection="never")
    for losses in ([loss, misfit], [loss, LogitsDistillation(teacher_index=2)]):
        message_of(ValueError, lambda losses=losses: Distiller(teacher, student, losses))
    assert [looks_of(model) for model in (teacher, student)] == before
    for weight, old in zip([*teacher.weights, *student.weights], weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    assert not loss.built
    assert not loss.weights


def test_one_head_of_logits_is_taken_beside_one_of_probabilities():
    construct({"teacher": two_headed(), "student": two_headed(), "distillation_losses": LogitsDistillation(output="a")})


def test_wrong_teacher_is_refused_and_the_old_one_kept():
    distiller = construct({})
    old = distiller.teacher
    for wrong, error in ((seq(layers.Dense(4)), ValueError), (3, TypeError), (None, TypeError)):
        message_of(error, lambda wrong=wrong: setattr(distiller, "teacher", wrong))
        assert distiller.teacher is old
