"""Soft targets."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number
from keras_kicks.losses.distillation.distillation_loss import DistillationLoss


@keras.saving.register_keras_serializable(package="keras_kicks")
class LogitsDistillation(DistillationLoss):
    """Divergence of the student's softened class probabilities from the teacher's.

        loss = T^2 sum_k p_k (log p_k - log q_k),   p = softmax(teacher / T),  q = softmax(student / T)

    Computed from log-softmax, so that no probability is clipped. T^2 keeps the size of the gradient independent of
    the temperature. With several teachers the mean of the losses has the gradient of the loss towards the mean of
    their softened probabilities. A single logit stands for a binary classifier, softmax([0, z]).

    Args:
        temperature: T, a number > 0, or a `keras.optimizers.schedules.LearningRateSchedule` that gives it for each
            training step.
        from_logits: Whether the outputs are logits; otherwise probabilities, of which the logarithm is taken.
        output: Key or index of the output to compare, where the models have several.
        teacher_index: Index of the teacher to compare, where there are several; None for each of them.
        **kwargs: Base layer arguments.

    Call arguments:
        teacher_outputs: Shape (batch, ..., classes).
        student_outputs: The same shape.
        sample_weight: Not used.
        step: Number of training steps done, for a schedule; None counts as 0.

    Returns:
        Shape (batch, ...), float32.

    Raises:
        TypeError: `temperature` is no number and no schedule, `teacher_index` no integer.
        ValueError: expected temperature > 0; outputs of the same rank with the same, known number of classes.

    Source:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.

    Example:
        >>> import numpy as np
        >>> loss = LogitsDistillation(temperature=1.0)
        >>> round(float(loss(np.array([[0.0, 0.0]]), np.array([[0.0, np.log(3.0)]]))[0]), 4)  # ln(2 / sqrt(3))
        0.1438
    """

    def __init__(self, temperature=3.0, from_logits=True, output=None, teacher_index=None, **kwargs):
        owner = type(self).__name__
        if not isinstance(temperature, keras.optimizers.schedules.LearningRateSchedule):
            expect_number(owner, "Pass a number or a LearningRateSchedule.", temperature=temperature)
            expect(temperature > 0, owner, "temperature > 0", temperature=temperature)
            temperature = float(temperature)
        super().__init__(output=output, teacher_index=teacher_index, **kwargs)
        self.temperature = temperature
        self.from_logits = bool(from_logits)

    def check(self, teacher_outputs_shape, student_outputs_shape):
        """Raise unless the classes are the same."""
        teacher, student = tuple(teacher_outputs_shape), tuple(student_outputs_shape)
        fits = len(teacher) == len(student) >= 2 and teacher[-1] == student[-1] and teacher[-1] is not None
        rule = "outputs of the same rank with the same, known number of classes"
        self.expect_fit(fits, rule, "Give both models one logit for each class.", teacher, student)

    def call(self, teacher_outputs, student_outputs, sample_weight=None, step=None):
        """Return the loss of each sample."""
        temperature = self.temperature_at(step)
        log_p = self._log_probabilities(teacher_outputs, temperature)
        log_q = self._log_probabilities(student_outputs, temperature)
        return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1) * temperature**2

    def compute_output_shape(self, teacher_outputs_shape, student_outputs_shape):
        """Return the student's shape without the last axis."""
        return tuple(student_outputs_shape[:-1])

    def temperature_at(self, step):
        """Return the temperature after `step` training steps."""
        if isinstance(self.temperature, float):
            return self.temperature
        return ops.cast(self.temperature(0 if step is None else step), "float32")

    def _log_probabilities(self, outputs, temperature):
        logits = ops.cast(outputs, "float32")
        if not self.from_logits:
            logits = ops.log(ops.maximum(logits, keras.config.epsilon()))
            if logits.shape[-1] == 1:
                complement = ops.maximum(1.0 - ops.cast(outputs, "float32"), keras.config.epsilon())
                logits = logits - ops.log(complement)
        if logits.shape[-1] == 1:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return ops.log_softmax(logits / temperature, axis=-1)

    def get_config(self):
        """Return the constructor arguments."""
        temperature = self.temperature
        if not isinstance(temperature, float):
            temperature = keras.optimizers.schedules.serialize(temperature)
        config = {**super().get_config(), "temperature": temperature, "from_logits": self.from_logits}
        del config["teacher_layer_name"], config["student_layer_name"]
        return config

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        if isinstance(config["temperature"], dict):
            schedule = keras.optimizers.schedules.deserialize(config["temperature"])
            config = {**config, "temperature": schedule}
        return cls(**config)
