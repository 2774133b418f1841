"""Attention maps: where the student looks, towards where the teacher looks."""

import math

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.losses.distillation.distillation_loss import DistillationLoss


@keras.saving.register_keras_serializable(package="keras_kicks")
class AttentionTransfer(DistillationLoss):
    """Distance between the spatial attention maps of two feature maps.

        Q = sum over channels of |F|^power, flattened;   loss = || Q_S / ||Q_S|| - Q_T / ||Q_T|| ||^2

    The numbers of channels may differ, and so may the resolutions of images: the finer map is then summed over the
    cells of the coarser one. The loss lies in [0, 2] and does not depend on the scale of the features.

    Args:
        teacher_layer_name: Layer of the teacher; None for its output.
        student_layer_name: Layer of the student; None for its output.
        power: Exponent, > 0; the larger, the more the strongest channels count.
        teacher_index: Index of the teacher to compare, where there are several; None for each of them.
        **kwargs: Base layer arguments.

    Call arguments:
        teacher_outputs: Shape (batch, positions, channels) or (batch, height, width, channels).
        student_outputs: The same rank, any number of channels.
        sample_weight: Not used.
        step: Not used.

    Returns:
        Shape (batch,), float32.

    Raises:
        TypeError: `power` is no number.
        ValueError: expected power > 0; features of the same rank, 3 or 4, and for rank 3 the same number of positions.

    Source:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, arXiv:1612.03928. Departure: the distance
        is squared, since the gradient of the plain one is not defined for equal maps.

    Example:
        >>> import numpy as np
        >>> loss = AttentionTransfer()
        >>> features = np.random.default_rng(0).normal(size=(1, 4, 4, 3))
        >>> round(float(loss(features, 5 * features)[0]), 6)
        0.0
    """

    def __init__(self, teacher_layer_name=None, student_layer_name=None, power=2.0, teacher_index=None, **kwargs):
        owner = type(self).__name__
        expect_number(owner, power=power)
        expect(power > 0, owner, "power > 0", power=power)
        super().__init__(teacher_layer_name, student_layer_name, teacher_index=teacher_index, **kwargs)
        self.power = float(power)

    def check(self, teacher_outputs_shape, student_outputs_shape):
        """Raise unless both have a map."""
        teacher, student = tuple(teacher_outputs_shape), tuple(student_outputs_shape)
        fits = len(teacher) == len(student) in (3, 4)
        if fits and len(teacher) == 3:
            fits = None in (teacher[1], student[1]) or teacher[1] == student[1]
        rule = "features of the same rank, 3 (then with as many positions) or 4"
        self.expect_fit(
            fits, rule, "Name convolutional layers, or layers of sequences of one length.", teacher, student
        )

    def call(self, teacher_outputs, student_outputs, sample_weight=None, step=None):
        """Return the distance of the maps of each sample."""
        teacher, student = self._energy(teacher_outputs), self._energy(student_outputs)
        for axis in range(1, len(teacher.shape)):
            teacher, student = _at_coarser(teacher, student, axis)
        return ops.sum(ops.square(self._normal(student) - self._normal(teacher)), axis=-1)

    def _energy(self, features):
        return ops.sum(ops.power(ops.abs(ops.cast(features, "float32")), self.power), axis=-1)

    def _normal(self, energy):
        length = 1 if None in energy.shape[1:] else math.prod(energy.shape[1:])
        flat = ops.reshape(energy, (-1, length)) if length > 1 else ops.reshape(energy, (ops.shape(energy)[0], -1))
        return flat * ops.rsqrt(ops.sum(ops.square(flat), axis=-1, keepdims=True) + 1e-12)

    def get_config(self):
        """Return the constructor arguments."""
        config = {**super().get_config(), "power": self.power}
        del config["output"]
        return config


def _at_coarser(a, b, axis):
    """Return two maps with the length that the coarser one has along an axis, each cell the sum of what it covers."""
    if None in (a.shape[axis], b.shape[axis]):
        return a, b
    length = min(a.shape[axis], b.shape[axis])
    return tuple(x if x.shape[axis] == length else _summed(x, length, axis) for x in (a, b))


def _summed(x, length, axis):
    """Sum along an axis over cells of equal width; a product, since XLA cannot compile TensorFlow's resizing."""
    edges = np.linspace(0, x.shape[axis], length + 1)
    start = np.arange(x.shape[axis])[:, None]
    covered = np.clip(np.minimum(start + 1, edges[1:]) - np.maximum(start, edges[:-1]), 0, None)
    weights = ops.convert_to_tensor(covered, dtype=x.dtype)
    return ops.moveaxis(ops.tensordot(ops.moveaxis(x, axis, -1), weights, axes=1), -1, axis)
