"""A decoder of vectors that is trained on labels and runs on its own outputs."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.layers.recurrent.feedback_decoder import FeedbackDecoder


@keras.saving.register_keras_serializable(package="keras_kicks")
class TeacherForcingRegressor(FeedbackDecoder):
    """Predicts vectors one after the other: from the labels before them if it has them, else from its own outputs.

        h_t = cell([u_{t-1}, x_t], h_{t-1}),   y_t = W h_t + b,   u_0 = 0
        u_t = the label of step t    with labels: teacher forcing, all steps at once
        u_t = y_t                    without labels: free running, step by step

    What `TeacherForcingDecoder` is for tokens: the same two models share its weights, a cell that is no recurrent one
    makes an output-recurrent network, and `keras_kicks.callbacks.ScheduledSampling` leads from labels to own outputs.
    An own output that is fed back carries no gradient.

    Args:
        cell: A recurrent cell, a list of cells, or a layer from (batch, features) to (batch, units).
        units: Width of the labels and of the outputs, >= 1.
        max_length: Steps of a free run without inputs of shape (batch, steps, features).
        scheduled_sampling: Whether own outputs are fed back in training.
        teacher_forcing_ratio: Probability of the label under scheduled sampling to begin with, in [0, 1].
        seed: None or an integer.
        **kwargs: Base layer arguments, such as `name`; the dtype policy is by default that of the cell.

    Call arguments:
        inputs: Shape (batch, steps, features), what besides the fed-back vector each step sees; shape
            (batch, features), the same in all steps; or None.
        labels: Floating, shape (batch, steps, units); or None to run freely.
        initial_state: The state of the cell or the list of its states before the first step; zeros by default.
        mask: Boolean, shape (batch, steps), the steps that count; or None.
        training: Whether to train, which needs labels.

    Returns:
        Shape (batch, steps, units), in the compute dtype.

    Raises:
        TypeError: `cell` is no layer, `units`, `max_length` or the seed no integer, labels are not floating.
        ValueError: expected units >= 1; max_length >= 1, and one for a free run without steps;
            0 <= teacher_forcing_ratio <= 1, and 1 without scheduled_sampling; labels in training; labels of shape
            (batch, steps, units); inputs of as many steps, and always of the same width or never; an initial_state of
            the sizes of the cell.

    Masking:
        Steps count unless the mask of the inputs or of the labels, or `mask`, says otherwise; the output has that
        mask. Other steps are passed over: the states, and what is fed back, are those of the last step that counts.

    Source:
        Williams and Zipser 1989; Goodfellow, Bengio and Courville 2016, section 10.2.1. Scheduled sampling: Bengio et
        al. 2015, arXiv:1506.03099. Departure: own outputs in training are made without dropout, as in inference.

    Example:
        >>> import numpy as np
        >>> forecaster = TeacherForcingRegressor(keras.layers.GRUCell(8), units=2)
        >>> x, labels = keras.Input((None, 3)), keras.Input((None, 2))
        >>> to_train = keras.Model([x, labels], forecaster(x, labels))
        >>> to_predict = keras.Model(x, forecaster(x))
        >>> to_predict.predict(np.ones((4, 5, 3)), verbose=0).shape
        (4, 5, 2)
    """

    def __init__(
        self,
        cell,
        units,
        max_length=None,
        scheduled_sampling=False,
        teacher_forcing_ratio=1.0,
        seed=None,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_integer(owner, units=units)
        expect(units >= 1, owner, "units >= 1", units=units)
        super().__init__(cell, units, max_length, bool(scheduled_sampling), teacher_forcing_ratio, seed, **kwargs)
        self.units = units

    def build_encoder(self):
        """Return the width of what is fed back."""
        return self.units

    def encode(self, fed):
        """Return what is fed back, as it is."""
        return fed

    def first_fed(self, batch):
        """Return zeros: nothing was before the first step."""
        return ops.zeros((batch, self.units), dtype=self.compute_dtype)

    def own_fed(self, outputs, draw):
        """Return the outputs: nothing is drawn."""
        return outputs

    def emit(self, outputs, ended):
        """Return the outputs, what is fed back of them, and that no sample has ended."""
        return outputs, outputs, ended

    def check_labels(self, labels):
        """Raise unless labels are floating, of shape (batch, steps, units)."""
        owner, shape = type(self).__name__, tuple(labels.shape)
        dtype = keras.backend.standardize_dtype(labels.dtype)
        expect("float" in dtype, owner, "floating labels", error=TypeError, labels=dtype)
        good = len(shape) == 3 and shape[2] in (None, self.units)
        expect(good, owner, "labels of shape (batch, steps, units)", labels_shape=shape, units=self.units)

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "units": self.units}
