"""A gated recurrent unit, one step of it."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer, expect_number, expect_rate
from keras_kicks.layers.recurrent.sequence_draws import SequenceDraws
from keras_kicks.layers.recurrent.sequence_plan import SequencePlan, as_tensor, normalized_product, tanh_and_sigmoid
from keras_kicks.layers.recurrent.zoneout import zoned_rule, zoned_states, zoneout_rates
from keras_kicks.ops.dropconnect import masked_kernel
from keras_kicks.ops.gru_rule import GRURule
from keras_kicks.ops.row_norm import normalize


@keras.saving.register_keras_serializable(package="keras_kicks")
class GRUCell(SequenceDraws, keras.layers.GRUCell):
    """One step of a gated recurrent unit; with every option off it is `keras.layers.GRUCell`, weights included.

        z = sigmoid(x W_z + h U_z + b_z)             update gate
        r = sigmoid(x W_r + h U_r + b_r)             reset gate
        n = tanh(x W_n + r * (h U_n + d_n) + b_n)    candidate, reset_after=True
        n = tanh(x W_n + (r * h) U_n + b_n)          candidate, reset_after=False
        h' = z * h + (1 - z) * n                     hidden state, the output

        layer_norm      LN(x W) * gamma_x + LN(h U) * gamma_h + b, apart for the two gates and for the candidate
        zoneout         each element of h' keeps its old value with this probability; in inference the mean

    The columns of the weights are in the order z, r, n, as in Keras (torch has r, z, n). Where others write
    h' = (1 - z) * h + z * n, their z is 1 - z: the same unit with the signs of W_z, U_z and b_z turned.

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
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, features).
        states: h of shape (batch, units), or a list of it.
        training: Whether to drop and to draw what zoneout keeps.

    Returns:
        h' and, as a list if a list was passed, h' as the new state.

    Raises:
        TypeError: `units` is no integer.
        ValueError: expected units >= 1; rates in [0, 1); layer_norm_epsilon > 0; zoneout in training on JAX outside of
            `keras_kicks.layers.RNN`.

    Masking:
        `keras.layers.RNN` keeps the states where a sequence is masked.

    Source:
        Cho et al. 2014, arXiv:1406.1078. Layer normalization: Ba, Kiros and Hinton 2016, arXiv:1607.06450, which has
        the reset gate after the product; departure: one bias in place of the shifts of the products.
        `recurrent_dropconnect`: Merity, Keskar and Socher 2017, arXiv:1708.02182. Zoneout: Krueger et al. 2017,
        arXiv:1606.01305.

    Example:
        >>> import numpy as np
        >>> cell = GRUCell(2, reset_after=False, layer_norm=True)
        >>> output, (h,) = cell(np.ones((1, 3)), [np.zeros((1, 2))])
        >>> tuple(output.shape)
        (1, 2)
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
        **kwargs,
    ):
        owner = type(self).__name__
        expect_integer(owner, units=units)
        expect(units >= 1, owner, "units >= 1", units=units)
        expect_number(owner, layer_norm_epsilon=layer_norm_epsilon)
        expect(layer_norm_epsilon > 0, owner, "layer_norm_epsilon > 0", layer_norm_epsilon=layer_norm_epsilon)
        expect_rate(owner, dropout=dropout, recurrent_dropout=recurrent_dropout)
        expect_rate(owner, recurrent_dropconnect=recurrent_dropconnect)
        super().__init__(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            reset_after=bool(reset_after),
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            seed=seed,
            **kwargs,
        )
        self.dropout, self.recurrent_dropout = float(dropout), float(recurrent_dropout)
        self.recurrent_dropconnect = float(recurrent_dropconnect)
        self.layer_norm = bool(layer_norm)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.zoneout = zoneout_rates(owner, zoneout, ("h",))

    def build(self, input_shape):
        """Create the weights."""
        super().build(input_shape)
        if self.layer_norm:
            width = 3 * self.units
            self.kernel_gamma = self.add_weight(shape=(width,), name="kernel_gamma", initializer="ones")
            self.recurrent_gamma = self.add_weight(shape=(width,), name="recurrent_gamma", initializer="ones")

    def draw_for_sequence(self):
        """Drop connections of the recurrent kernel."""
        if self.recurrent_dropconnect == 0:
            return None
        kernel = as_tensor(self.recurrent_kernel, self.compute_dtype)
        return masked_kernel(kernel, self.recurrent_dropconnect, self.seed_generator)

    def call(self, inputs, states, training=False):
        """Make one step."""
        h = states[0] if keras.tree.is_nested(states) else states
        u = self.units
        kernel, seen = self.recurrent_kernel, h
        if training:
            if self.dropout > 0:
                inputs = inputs * self.input_mask_for(inputs)
            if self.recurrent_dropout > 0:
                seen = h * self.state_mask_for(h)
            if self.recurrent_dropconnect > 0:
                kernel = self.other_draw_now()
        kernel = ops.cast(kernel, self.compute_dtype)
        bias, recurrent_bias = self._biases()
        x = self._normal(ops.matmul(inputs, self.kernel), "kernel_gamma")
        gates = self._normal(ops.matmul(seen, kernel[:, : 2 * u]), "recurrent_gamma") + recurrent_bias[: 2 * u]
        x = x + bias
        gates = self.recurrent_activation(x[:, : 2 * u] + gates)
        z, r = gates[:, :u], gates[:, u:]
        inner = ops.matmul(seen if self.reset_after else r * seen, kernel[:, 2 * u :])
        inner = self._normal(inner, "recurrent_gamma", 2 * u) + recurrent_bias[2 * u :]
        n = self.activation(x[:, 2 * u :] + (r * inner if self.reset_after else inner))
        (h,) = zoned_states(self, [z * h + (1 - z) * n], [h], training)
        return h, [h] if keras.tree.is_nested(states) else h

    def _biases(self):
        """The biases of the products with the inputs and with the state."""
        none = ops.zeros((3 * self.units,), dtype=self.compute_dtype)
        if self.bias is None:
            return none, none
        bias = ops.cast(self.bias, self.compute_dtype)
        return (bias[0], bias[1]) if self.reset_after else (bias, none)

    def _normal(self, product, gamma, start=0):
        """Normalize a product, the part for the gates and the part for the candidate apart."""
        if not self.layer_norm:
            return product
        edge, width = 2 * self.units - start, product.shape[-1]
        pieces = [product[:, a:b] for a, b in ((0, edge), (edge, width)) if b > a]
        normal = ops.concatenate([normalize(piece, self.layer_norm_epsilon)[0] for piece in pieces], axis=-1)
        return normal * ops.cast(getattr(self, gamma), self.compute_dtype)[start : start + width]

    @property
    def has_sequence_plan(self):
        """Whether a whole sequence can be run at once: with tanh and sigmoid."""
        return tanh_and_sigmoid(self)

    def sequence_plan(self, sequences, training):
        """Return how the cell runs over `sequences` of shape (batch, steps, features)."""
        dtype, u = self.compute_dtype, self.units
        constants, recurrent_kernel = {}, self.recurrent_kernel
        if training:
            if self.dropout > 0:
                sequences = sequences * ops.expand_dims(self.input_mask_for(sequences[:, 0]), 1)
            if self.recurrent_dropout > 0:
                constants["recurrent_mask"] = self.state_mask_for(None)
            if self.recurrent_dropconnect > 0:
                recurrent_kernel = self.other_draw_now()
        recurrent_kernel = as_tensor(recurrent_kernel, dtype)
        if self.reset_after:
            weights = {"recurrent_kernel": recurrent_kernel}
        else:
            weights = {"gates_kernel": recurrent_kernel[:, : 2 * u], "candidate_kernel": recurrent_kernel[:, 2 * u :]}
        if self.bias is not None:
            weights["bias"], recurrent_bias = self._biases()
            if self.reset_after:
                weights["recurrent_bias"] = recurrent_bias
        kernel, epsilon = as_tensor(self.kernel, dtype), None
        if self.layer_norm:
            epsilon = self.layer_norm_epsilon
            gamma = ops.cast(self.recurrent_gamma, dtype)
            weights["gates_gamma"], weights["candidate_gamma"] = gamma[: 2 * u], gamma[2 * u :]
            gamma = as_tensor(self.kernel_gamma, dtype)
            sequences = normalized_product(sequences, kernel, gamma, epsilon, (2 * u, u))
            kernel = None
        rule = GRURule(u, reset_after=self.reset_after, epsilon=epsilon, dropped="recurrent_mask" in constants)
        rule, steps = zoned_rule(self, rule, sequences, [u], training)
        return SequencePlan(rule, sequences, kernel, weights, steps, constants)

    def get_config(self):
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "layer_norm": self.layer_norm,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "recurrent_dropconnect": self.recurrent_dropconnect,
            "zoneout": self.zoneout[0],
        }
