"""The distillation losses of Keras itself, for use in our distiller."""

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.losses.distillation.distillation_loss import DistillationLoss
from keras_kicks.losses.distillation.feature_distillation import FeatureDistillation
from keras_kicks.losses.distillation.logits_distillation import LogitsDistillation


def adapted(loss, owner):
    """Return a `DistillationLoss` for one of ours or of Keras's.

    Keras's LogitsDistillation with the Kullback-Leibler divergence becomes ours, since it clips logits as if they were
    probabilities when the divergence is given by name; its FeatureDistillation of one pair of tensors becomes ours
    without a projection. Any other is called as it is.

    Raises:
        TypeError: `loss` is neither.
    """
    if isinstance(loss, DistillationLoss):
        return loss
    known = isinstance(loss, keras.distillation.DistillationLoss)
    rule = "a keras_kicks.losses.DistillationLoss or a keras.distillation.DistillationLoss"
    expect(known, owner, rule, error=TypeError, distillation_losses=loss)
    if isinstance(loss, keras.distillation.LogitsDistillation) and _is_divergence(loss.loss):
        return LogitsDistillation(loss.temperature)
    if isinstance(loss, keras.distillation.FeatureDistillation) and callable(loss.loss):
        names = loss.teacher_layer_name, loss.student_layer_name
        return FeatureDistillation(loss.loss, *names, projection="never")
    return KerasDistillationLoss(loss)


def _is_divergence(loss):
    return loss is keras.losses.kl_divergence or isinstance(loss, keras.losses.KLDivergence)


@keras.saving.register_keras_serializable(package="keras_kicks")
class KerasDistillationLoss(DistillationLoss):
    """A `keras.distillation.DistillationLoss`: one number for the batch, so that it knows no sample weights.

    Args:
        loss: The loss.
        **kwargs: Base layer arguments.
    """

    per_sample = False

    def __init__(self, loss, **kwargs):
        layers = getattr(loss, "teacher_layer_name", None), getattr(loss, "student_layer_name", None)
        super().__init__(*layers, **kwargs)
        self.loss = loss

    def build(self, teacher_outputs_shape, student_outputs_shape):
        """There is nothing to build: Keras's losses check what they are called with."""

    def call(self, teacher_outputs, student_outputs, sample_weight=None, step=None):
        """Return the loss of the batch."""
        self.loss.validate_outputs(teacher_outputs, student_outputs)
        return ops.cast(self.loss.compute_loss(teacher_outputs, student_outputs), "float32")

    def compute_output_shape(self, teacher_outputs_shape, student_outputs_shape):
        """Return the shape of a scalar."""
        return ()

    def get_config(self):
        """Return the constructor arguments."""
        config = {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}
        for key in ("teacher_layer_name", "student_layer_name", "output", "teacher_index"):
            del config[key]
        return config

    @classmethod
    def from_config(cls, config):
        """Rebuild from `get_config`."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
