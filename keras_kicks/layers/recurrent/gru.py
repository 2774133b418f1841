"""Gated recurrent units over sequences."""

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.layers.recurrent.cell_layer import CellLayer, cell_arguments
from keras_kicks.layers.recurrent.gru_cell import GRUCell
from keras_kicks.layers.recurrent.torch_weights import expect_shape, reordered, split_torch

# Torch's order of the blocks is r, z, n; ours is z, r, n. The same swap leads both ways.
_SWAP = (1, 0, 2)


@keras.saving.register_keras_serializable(package="keras_kicks")
class GRU(CellLayer):
    """Gated recurrent units in the variants of `GRUCell`, where the equations are, in a loop with its own gradient.

    With every option off it equals `keras.layers.GRU`, weights interchangeable, and takes less time.

    Args:
        units: Width of the state, >= 1.
        activation: Of the candidate.
        recurrent_activation: Of the gates.
        use_bias: Whether there are biases.
        kernel_initializer: Of the input kernel.
        recurrent_initializer: Of the recurrent kernel.
        bias_initializer: Of the biases.
        reset_after: Whether the reset gate multiplies the product with the state (as in Keras, torch and cuDNN) or
            the state before its product (as Cho et al. wrote it).
        layer_norm: Whether to normalize the products.
        layer_norm_epsilon: Added to the variances.
        kernel_regularizer: Of the input kernel.
        recurrent_regularizer: Of the recurrent kernel.
        bias_regularizer: Of the biases.
        kernel_constraint: Of the input kernel.
        recurrent_constraint: Of the recurrent kernel.
        bias_constraint: Of the biases.
        dropout: Share of the inputs to drop, in [0, 1); one mask for a sequence and all gates.
        recurrent_dropout: Share of the hidden state to drop before its products, likewise.
        recurrent_dropconnect: Share of the recurrent kernel to drop, in [0, 1); one mask for a batch of sequences.
        zoneout: Share of the state to keep, in [0, 1), resolved to 2^-15.
        seed: None or an integer.
        return_sequences: Whether to return the hidden states of all steps.
        return_state: Whether to return the last state too.
        go_backwards: Whether to run from the last step to the first; outputs are then in that order.
        stateful: Whether the last state is the next batch's first one.
        unroll: Whether to write out the steps, in Keras's loop.
        zero_output_for_mask: Whether outputs of masked steps are zero, and not those of the step before.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        sequences: Shape (batch, steps, features).
        initial_state: h, or a list of it; zeros by default.
        mask: Boolean, shape (batch, steps), or None.
        training: Whether to drop and to draw what zoneout keeps.

    Returns:
        h of the last step, shape (batch, units), or with `return_sequences` of all, (batch, steps, units); then with
        `return_state` the last h.

    Raises:
        TypeError: As `GRUCell`.
        ValueError: As `GRUCell`, and expected at least one step.

    Masking:
        As `RNN`: keeps the states in masked steps; passes the mask on with `return_sequences`.

    Source:
        As `GRUCell`.

    Example:
        >>> import numpy as np
        >>> layer = GRU(4, reset_after=False, return_sequences=True)
        >>> tuple(layer(np.ones((2, 5, 3))).shape)
        (2, 5, 4)
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
        reset_after=True,
        layer_norm=False,
        layer_norm_epsilon=1e-3,
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
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        cell = GRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            reset_after=reset_after,
            layer_norm=layer_norm,
            layer_norm_epsilon=layer_norm_epsilon,
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
            name="gru_cell",
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

    def from_torch(self, state, suffix="l0"):
        """Take the weights of a `torch.nn.GRU`.

        Args:
            state: What `module.state_dict()` returns, or a dict of arrays by the same names.
            suffix: Layer and direction in torch's names, such as "l1" or "l0_reverse".

        Raises:
            ValueError: expected weights of those names and of the layer's shapes; a layer that is built; one with
                reset_after=True and without layer normalization, as torch's.
        """
        owner, cell = type(self).__name__, self.cell
        self._expect_as_torch()
        needed = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * cell.use_bias
        found = split_torch(owner, state, suffix, needed)
        values = {"kernel": found["weight_ih"].T, "recurrent_kernel": found["weight_hh"].T}
        if cell.use_bias:
            values["bias"] = np.stack([found["bias_ih"], found["bias_hh"]])
        for name, value in values.items():
            expect_shape(owner, f"a {name}", value, getattr(cell, name).shape)
        for name, value in values.items():
            getattr(cell, name).assign(reordered(value, _SWAP))

    def to_torch(self, suffix="l0"):
        """Return the weights as NumPy arrays by the names of a `torch.nn.GRU`.

        Args:
            suffix: Layer and direction in torch's names, such as "l1" or "l0_reverse".

        Raises:
            ValueError: As `from_torch`.
        """
        self._expect_as_torch()
        kernel, recurrent = (
            reordered(ops.convert_to_numpy(value), _SWAP) for value in (self.cell.kernel, self.cell.recurrent_kernel)
        )
        values = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
        if self.cell.use_bias:
            bias = reordered(ops.convert_to_numpy(self.cell.bias), _SWAP)
            values |= {"bias_ih": bias[0], "bias_hh": bias[1]}
        return {f"{name}_{suffix}": np.ascontiguousarray(value) for name, value in values.items()}

    def _expect_as_torch(self):
        cell, owner = self.cell, type(self).__name__
        expect(
            self.built, owner, "a layer that is built", "Call it, or build it with an input shape.", built=self.built
        )
        same = cell.reset_after and not cell.layer_norm
        rule = "a layer with reset_after=True and without layer_norm, as torch's"
        expect(same, owner, rule, reset_after=cell.reset_after, layer_norm=cell.layer_norm)
