"""Long short-term memory over sequences."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.layers.recurrent.cell_layer import CellLayer, cell_arguments
from keras_kicks.layers.recurrent.lstm_cell import LSTMCell
from keras_kicks.layers.recurrent.torch_weights import expect_shape, split_torch


@keras.saving.register_keras_serializable(package="keras_kicks")
class LSTM(CellLayer):
    """Long short-term memory in the variants of `LSTMCell`, where its equations are, in a loop with its own gradient.

    With every option off it equals `keras.layers.LSTM`, weights interchangeable, and takes less time.

    Args:
        units: Width of the cell state, >= 1.
        activation: Of g and of the cell state.
        recurrent_activation: Of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer: Of the input kernel, and of the projection.
        recurrent_initializer: Of the recurrent kernel.
        bias_initializer: Of the bias, but for what `forget_bias` or `chrono` set.
        forget_bias: What the bias of the forget gate starts with.
        chrono: None, or the longest lag T to be learned, in steps, > 2: the forget gate's bias starts at log(u) with
            u uniform on [1, T - 1], and the input gate's at -log(u).
        peephole: None, "diagonal" or "full".
        layer_norm: Whether to normalize the two products and the cell state.
        layer_norm_epsilon: Added to the variances.
        coupled_gates: Whether the input gate is 1 - f.
        proj_units: None, or the width of the hidden state, >= 1.
        peephole_initializer: Of the peephole weights.
        kernel_regularizer: Of the input kernel.
        recurrent_regularizer: Of the recurrent kernel.
        bias_regularizer: Of the bias.
        kernel_constraint: Of the input kernel.
        recurrent_constraint: Of the recurrent kernel.
        bias_constraint: Of the bias.
        dropout: Share of the inputs to drop, in [0, 1); one mask for a sequence and all gates.
        recurrent_dropout: Share of the hidden state to drop before its product, likewise.
        recurrent_dropconnect: Share of the recurrent kernel to drop, in [0, 1); one mask for a batch of sequences.
        zoneout: Share of the states to keep, in [0, 1), resolved to 2^-15: one number, or one for h and one for c.
        seed: None or an integer.
        return_sequences: Whether to return the hidden states of all steps.
        return_state: Whether to return the last h and c too.
        return_cell_sequences: Whether to return the cell states of all steps too; with `return_sequences` alone. Not
            for `keras.layers.Bidirectional`, which takes a layer's outputs for one tensor: wrap
            `RNN(LSTMCell(units, output_cell_state=True), return_sequences=True)` there, with h and c side by side.
        go_backwards: Whether to run from the last step to the first; outputs are then in that order.
        stateful: Whether the last states are the next batch's first ones.
        unroll: Whether to write out the steps, in Keras's loop.
        zero_output_for_mask: Whether outputs of masked steps are zero, and not those of the step before.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        sequences: Shape (batch, steps, features).
        initial_state: List of h and c; zeros by default.
        mask: Boolean, shape (batch, steps), or None.
        training: Whether to drop and to draw what zoneout keeps.

    Returns:
        h of the last step, shape (batch, units), or with `return_sequences` of all, (batch, steps, units), or
        proj_units; then with `return_cell_sequences` c of all steps; then with `return_state` the last h and c.

    Raises:
        TypeError: As `LSTMCell`.
        ValueError: As `LSTMCell`, and expected return_sequences=True for return_cell_sequences=True; at least one step.

    Masking:
        As `RNN`: keeps the states in masked steps; passes the mask on with `return_sequences`.

    Source:
        As `LSTMCell`.

    Example:
        >>> import numpy as np
        >>> layer = LSTM(4, peephole="diagonal", return_sequences=True, return_cell_sequences=True)
        >>> h, c = layer(np.ones((2, 5, 3)))
        >>> tuple(h.shape), tuple(c.shape)
        ((2, 5, 4), (2, 5, 4))
    """

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        forget_bias=1.0,
        chrono=None,
        peephole=None,
        layer_norm=False,
        layer_norm_epsilon=1e-3,
        coupled_gates=False,
        proj_units=None,
        peephole_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        recurrent_dropconnect=0.0,
        zoneout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        return_cell_sequences=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        expect(
            return_sequences or not return_cell_sequences,
            type(self).__name__,
            "return_sequences=True for return_cell_sequences=True",
            return_sequences=return_sequences,
        )
        cell = LSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            forget_bias=forget_bias,
            chrono=chrono,
            peephole=peephole,
            layer_norm=layer_norm,
            layer_norm_epsilon=layer_norm_epsilon,
            coupled_gates=coupled_gates,
            proj_units=proj_units,
            peephole_initializer=peephole_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            recurrent_dropconnect=recurrent_dropconnect,
            zoneout=zoneout,
            seed=seed,
            output_cell_state=return_cell_sequences,
            name="lstm_cell",
            **cell_arguments(kwargs),
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self.return_cell_sequences = bool(return_cell_sequences)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Run the cell over the sequences."""
        result = super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        if not self.return_cell_sequences:
            return result
        output, *states = result if self.return_state else (result,)
        width = self.cell.state_size[0]
        return (output[..., :width], output[..., width:], *states)

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        """Return the shapes of what is returned."""
        shapes = super().compute_output_shape(sequences_shape)
        if not self.return_cell_sequences:
            return shapes
        output, *states = shapes if self.return_state else (shapes,)
        return (*((*output[:-1], width) for width in self.cell.state_size), *states)

    def compute_mask(self, inputs, mask):
        """Return the masks of what is returned."""
        masks = super().compute_mask(inputs, mask)
        if not self.return_cell_sequences:
            return masks
        output, *states = masks if self.return_state else (masks,)
        return [output, output, *states]

    def from_torch(self, state, suffix="l0"):
        """Take the weights of a `torch.nn.LSTM`, also one with `proj_size`.

        Args:
            state: What `module.state_dict()` returns, or a dict of arrays by the same names.
            suffix: Layer and direction in torch's names, such as "l1" or "l0_reverse".

        Raises:
            ValueError: expected weights of those names and of the layer's shapes; a layer that is built; one
                without peepholes, coupled gates and layer normalization, which torch does not have.
        """
        owner = type(self).__name__
        self._expect_as_torch()
        needed = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * self.cell.use_bias
        needed += ["weight_hr"] * (self.cell.proj_units is not None)
        found = split_torch(owner, state, suffix, needed)
        values = {"kernel": found["weight_ih"].T, "recurrent_kernel": found["weight_hh"].T}
        if self.cell.use_bias:
            values["bias"] = found["bias_ih"] + found["bias_hh"]
        if self.cell.proj_units is not None:
            values["projection_kernel"] = found["weight_hr"].T
        for name, value in values.items():
            expect_shape(owner, f"a {name}", value, getattr(self.cell, name).shape)
        for name, value in values.items():
            getattr(self.cell, name).assign(value)

    def to_torch(self, suffix="l0"):
        """Return the weights as NumPy arrays by the names of a `torch.nn.LSTM`; all of the bias is in bias_ih.

        Args:
            suffix: Layer and direction in torch's names, such as "l1" or "l0_reverse".

        Raises:
            ValueError: As `from_torch`.
        """
        self._expect_as_torch()
        cell, array = self.cell, ops.convert_to_numpy
        values = {"weight_ih": array(cell.kernel).T, "weight_hh": array(cell.recurrent_kernel).T}
        if cell.use_bias:
            values |= {"bias_ih": array(cell.bias), "bias_hh": np.zeros_like(array(cell.bias))}
        if cell.proj_units is not None:
            values["weight_hr"] = array(cell.projection_kernel).T
        return {f"{name}_{suffix}": np.ascontiguousarray(value) for name, value in values.items()}

    def _expect_as_torch(self):
        cell, owner = self.cell, type(self).__name__
        expect(
            self.built, owner, "a layer that is built", "Call it, or build it with an input shape.", built=self.built
        )
        others = {"peephole": cell.peephole, "coupled_gates": cell.coupled_gates, "layer_norm": cell.layer_norm}
        expect(not any(others.values()), owner, "a layer with the options that torch has", **others)

    def get_config(self):
        """Return the constructor arguments."""
        config = super().get_config()
        del config["output_cell_state"]
        return {**config, "return_cell_sequences": self.return_cell_sequences}
