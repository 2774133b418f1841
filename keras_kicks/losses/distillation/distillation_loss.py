"""What every distillation loss is."""

import keras

from keras_kicks._errors import expect, expect_integer


class DistillationLoss(keras.layers.Layer):
    """Base class: compares what a teacher and a student compute for the same samples.

    A distillation loss is a layer, so that it may own weights (a projection, say), which are trained and saved with
    the model that holds it. It returns one loss per sample, or per position of a sample; weighting, masking and
    averaging are left to `keras_kicks.models.Distiller`.

    Subclasses implement `call`, and `check` where not every pair of shapes can be compared.

    Args:
        teacher_layer_name: Layer of the teacher to compare; None for the teacher's output.
        student_layer_name: Layer of the student to compare; None for the student's output.
        output: Key or index of the output to compare, where models have several and no layer is named.
        teacher_index: Index of the teacher to compare, where there are several; None for each of them.
        **kwargs: Base layer arguments; `dtype` is float32 by default, whatever the global policy.

    Call arguments:
        teacher_outputs: Tensor, batch first.
        student_outputs: Tensor, batch first.
        sample_weight: None or the weight of each sample, shape (batch,), for losses that relate samples.
        step: None or the number of training steps done, for schedules.

    Returns:
        Shape (batch, ...), float32; a scalar if `per_sample` is False.
    """

    per_sample = True

    def __init__(self, teacher_layer_name=None, student_layer_name=None, output=None, teacher_index=None, **kwargs):
        owner = type(self).__name__
        for argument, value in (("teacher_layer_name", teacher_layer_name), ("student_layer_name", student_layer_name)):
            named = value is None or isinstance(value, str)
            expect(named, owner, f"a layer's name or None for {argument}", error=TypeError, **{argument: value})
        if teacher_index is not None:
            expect_integer(owner, teacher_index=teacher_index)
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.teacher_layer_name = teacher_layer_name
        self.student_layer_name = student_layer_name
        self.output_key = output
        self.teacher_index = teacher_index

    def check(self, teacher_outputs_shape, student_outputs_shape):
        """Raise ValueError where two shapes cannot be compared."""

    def build(self, teacher_outputs_shape, student_outputs_shape):
        """Check the shapes."""
        self.check(teacher_outputs_shape, student_outputs_shape)

    def call(self, teacher_outputs, student_outputs, sample_weight=None, step=None):
        """Return the loss of each sample."""
        raise NotImplementedError

    def compute_mask(self, inputs, previous_mask):
        """Drop the mask: the distiller takes the student's."""
        return

    def compute_output_shape(self, teacher_outputs_shape, student_outputs_shape):
        """Return (batch,): one loss for each sample."""
        return tuple(student_outputs_shape[:1])

    def expect_fit(self, holds, rule, remedy, teacher_outputs_shape, student_outputs_shape):
        """Raise ValueError with both shapes unless `holds`."""
        expect(
            holds,
            type(self).__name__,
            rule,
            remedy,
            teacher=tuple(teacher_outputs_shape),
            student=tuple(student_outputs_shape),
        )

    def get_config(self):
        """Return the constructor arguments."""
        config = {
            "teacher_layer_name": self.teacher_layer_name,
            "student_layer_name": self.student_layer_name,
            "output": self.output_key,
            "teacher_index": self.teacher_index,
        }
        return {**super().get_config(), **config}
