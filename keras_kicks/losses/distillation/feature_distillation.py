"""Hints: the student's features towards the teacher's."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice
from keras_kicks.losses.distillation.distillation_loss import DistillationLoss


@keras.saving.register_keras_serializable(package="keras_kicks")
class FeatureDistillation(DistillationLoss):
    """Distance between the teacher's features and a learned projection of the student's.

        loss = distance(teacher, student . R)

    The projection R (inputs of it: the student's channels; outputs: the teacher's) is a weight of this loss: the
    distiller trains it together with the student and saves it.

    Args:
        loss: Distance per position: the name of a Keras loss, such as "mse" or "cosine_similarity", a
            `keras.losses.Loss`, or a function of (teacher, projected student) that averages over the channels.
        teacher_layer_name: Layer of the teacher; None for its output.
        student_layer_name: Layer of the student; None for its output.
        projection: "auto" for a projection if the numbers of channels differ, "always" or "never".
        output: Key or index of the output to compare, where models have several and no layer is named.
        teacher_index: Index of the teacher to compare, where there are several; None for each of them.
        **kwargs: Base layer arguments.

    Call arguments:
        teacher_outputs: Shape (batch, ..., channels).
        student_outputs: Shape (batch, ..., student channels), the same but for the channels.
        sample_weight: Not used.
        step: Not used.

    Returns:
        Shape (batch, ...), the distance of each position, float32.

    Raises:
        TypeError: `loss` is no name, loss or function.
        ValueError: expected a known projection; features of the same shape but for the channels; the same channels
            without a projection.

    Source:
        Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", 2015, arXiv:1412.6550.
        Departure: the regressor is linear over the channels at each position.

    Example:
        >>> import numpy as np
        >>> loss = FeatureDistillation()
        >>> loss(np.ones((2, 5, 8)), np.ones((2, 5, 3))).shape == (2, 5)  # one distance for each position
        True
        >>> [tuple(weight.shape) for weight in loss.weights]
        [(3, 8), (8,)]
    """

    def __init__(
        self,
        loss="mse",
        teacher_layer_name=None,
        student_layer_name=None,
        projection="auto",
        output=None,
        teacher_index=None,
        **kwargs,
    ):
        owner = type(self).__name__
        known = isinstance(loss, str) or callable(loss)
        expect(known, owner, "the name of a loss, a loss or a function", error=TypeError, loss=loss)
        expect_choice(owner, ("auto", "always", "never"), projection=projection)
        super().__init__(teacher_layer_name, student_layer_name, output, teacher_index, **kwargs)
        self.loss = keras.losses.get(loss)
        self.projection = projection
        self.projector = None

    def check(self, teacher_outputs_shape, student_outputs_shape):
        """Raise unless the features are the same but for the channels."""
        teacher, student = tuple(teacher_outputs_shape), tuple(student_outputs_shape)
        fits = len(teacher) == len(student) >= 2 and teacher[-1] is not None and student[-1] is not None
        fits = fits and all(None in pair or pair[0] == pair[1] for pair in zip(teacher[:-1], student[:-1], strict=True))
        rule = "features of the same shape but for known numbers of channels"
        self.expect_fit(fits, rule, "Name layers of the same resolution.", teacher, student)
        if self.projection == "never":
            rule = 'the same channels for projection="never"'
            self.expect_fit(teacher[-1] == student[-1], rule, 'Use projection="auto".', teacher, student)
        if self.projector is not None:
            rule = f"the {self.projector.units} channels that the projection was built for"
            remedy = "Give each teacher a loss with its own teacher_index."
            self.expect_fit(teacher[-1] == self.projector.units, rule, remedy, teacher, student)

    def build(self, teacher_outputs_shape, student_outputs_shape):
        """Create the projection, if there is one."""
        super().build(teacher_outputs_shape, student_outputs_shape)
        channels = teacher_outputs_shape[-1]
        if self.projection == "always" or channels != student_outputs_shape[-1]:
            self.projector = keras.layers.Dense(channels, name="projector", dtype=self.dtype_policy)
            self.projector.build(student_outputs_shape)

    def call(self, teacher_outputs, student_outputs, sample_weight=None, step=None):
        """Return the distance at each position."""
        teacher, student = ops.cast(teacher_outputs, "float32"), ops.cast(student_outputs, "float32")
        if self.projector is not None:
            student = self.projector(student)
        distance = self.loss.call if isinstance(self.loss, keras.losses.Loss) else self.loss
        return distance(teacher, student)

    def compute_output_shape(self, teacher_outputs_shape, student_outputs_shape):
        """Return the student's shape without the last axis."""
        return tuple(student_outputs_shape[:-1])

    def get_config(self):
        """Return the constructor arguments."""
        config = {"loss": keras.losses.serialize(self.loss), "projection": self.projection}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**{**config, "loss": keras.losses.deserialize(config["loss"])})
