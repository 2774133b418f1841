"""Long short-term memory, one step of it, in the variants that the literature has."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_choice, expect_integer, expect_number, expect_rate
from keras_kicks.layers.recurrent.sequence_draws import SequenceDraws
from keras_kicks.layers.recurrent.sequence_plan import (
    SequencePlan,
    as_tensor,
    cast_weights,
    normalized_product,
    tanh_and_sigmoid,
)
from keras_kicks.layers.recurrent.zoneout import zoned_rule, zoned_states, zoneout_rates
from keras_kicks.ops.dropconnect import masked_kernel
from keras_kicks.ops.lstm_rule import LSTMRule
from keras_kicks.ops.row_norm import normalize


@keras.saving.register_keras_serializable(package="keras_kicks")
class LSTMCell(SequenceDraws, keras.layers.LSTMCell):
    """One step of long short-term memory; with every option off it is `keras.layers.LSTMCell`, weights included.

        i = sigmoid(x W_i + h U_i + b_i)             input gate
        f = sigmoid(x W_f + h U_f + b_f)             forget gate
        g = tanh(x W_g + h U_g + b_g)                what may be stored
        c' = f * c + i * g                           cell state, the constant error carousel
        o = sigmoid(x W_o + h U_o + b_o)             output gate
        h' = o * tanh(c')                            hidden state, the output

        peephole        i and f also see c, o also sees c': + p * c ("diagonal") or + c P ("full")
        coupled_gates   i = 1 - f, and there is no W_i
        layer_norm      LN(x W) * gamma_x + LN(h U) * gamma_h + b, and tanh(LN(c') * gamma_c + beta_c)
        proj_units      h' = (o * tanh(c')) P
        zoneout         each element of c' and h' keeps its old value with this probability; in inference the mean

    The columns of `kernel`, `recurrent_kernel` and `bias` are in the order i, f, g, o, as in Keras and torch.

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
        output_cell_state: Whether the output is h' and c', side by side.
        seed: None or an integer.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Shape (batch, features).
        states: h of shape (batch, units), or proj_units, and c of shape (batch, units).
        training: Whether to drop and to draw what zoneout keeps.

    Returns:
        The output and the list of new states.

    Raises:
        TypeError: `units` or `proj_units` is no integer, `forget_bias` or `chrono` no number.
        ValueError: expected units >= 1; proj_units >= 1; rates in [0, 1); chrono > 2; a bias for `chrono`; a known
            peephole; layer_norm_epsilon > 0; zoneout in training on JAX outside of `keras_kicks.layers.RNN`.

    Masking:
        `keras.layers.RNN` keeps the states where a sequence is masked.

    Source:
        Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000. Peepholes: Gers,
        Schraudolph and Schmidhuber 2002. Coupled gates: Greff et al. 2015, arXiv:1503.04069. Projection: Sak, Senior
        and Beaufays 2014, arXiv:1402.1128. Layer normalization: Ba, Kiros and Hinton 2016, arXiv:1607.06450; departure:
        one bias in place of the shifts of both products. `chrono`: Tallec and Ollivier 2018, arXiv:1804.11188.
        `recurrent_dropconnect`: Merity, Keskar and Socher 2017, arXiv:1708.02182. Zoneout: Krueger et al. 2017,
        arXiv:1606.01305.

    Example:
        >>> import numpy as np
        >>> cell = LSTMCell(2, peephole="diagonal", coupled_gates=True)
        >>> output, (h, c) = cell(np.ones((1, 3)), cell.get_initial_state(batch_size=1))
        >>> tuple(output.shape), [tuple(weight.shape) for weight in cell.weights[:4]]
        ((1, 2), [(3, 6), (2, 6), (6,), (2, 2)])
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
        output_cell_state=False,
        seed=None,
        **kwargs,
    ):
        owner = type(self).__name__
        expect_integer(owner, units=units)
        expect(units >= 1, owner, "units >= 1", units=units)
        expect_number(owner, forget_bias=forget_bias, layer_norm_epsilon=layer_norm_epsilon)
        expect(layer_norm_epsilon > 0, owner, "layer_norm_epsilon > 0", layer_norm_epsilon=layer_norm_epsilon)
        expect_choice(owner, (None, "diagonal", "full"), peephole=peephole)
        expect_rate(owner, dropout=dropout, recurrent_dropout=recurrent_dropout)
        expect_rate(owner, recurrent_dropconnect=recurrent_dropconnect)
        if chrono is not None:
            expect_number(owner, chrono=chrono)
            expect(chrono > 2, owner, "chrono > 2", "It is the longest lag to be learned, in steps.", chrono=chrono)
            expect(use_bias, owner, "a bias for chrono", "Leave use_bias=True.", use_bias=use_bias)
        if proj_units is not None:
            expect_integer(owner, proj_units=proj_units)
            expect(proj_units >= 1, owner, "proj_units >= 1", proj_units=proj_units)
        super().__init__(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
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
        self.forget_bias = forget_bias
        self.chrono = chrono
        self.peephole = peephole
        self.layer_norm = bool(layer_norm)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.coupled_gates = bool(coupled_gates)
        self.proj_units = proj_units
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.zoneout = zoneout_rates(owner, zoneout, ("h", "c"))
        self.output_cell_state = bool(output_cell_state)
        width = proj_units or units
        self.state_size = [width, units]
        self.output_size = width + units if output_cell_state else width

    def build(self, input_shape):
        """Create the weights."""
        keras.layers.Layer.build(self, input_shape)
        blocks, hidden = 3 if self.coupled_gates else 4, self.state_size[0]
        width = blocks * self.units
        self.kernel = self.add_weight(
            shape=(input_shape[-1], width),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            shape=(hidden, width),
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = self.peephole_kernel = self.projection_kernel = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(width,),
                name="bias",
                initializer=self._first_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        if self.peephole is not None:
            seeing = blocks - 1
            shape = (self.units, seeing * self.units) if self.peephole == "full" else (seeing, self.units)
            self.peephole_kernel = self.add_weight(
                shape=shape, name="peephole_kernel", initializer=self.peephole_initializer
            )
        if self.proj_units is not None:
            self.projection_kernel = self.add_weight(
                shape=(self.units, self.proj_units), name="projection_kernel", initializer=self.kernel_initializer
            )
        if self.layer_norm:
            self.kernel_gamma = self.add_weight(shape=(width,), name="kernel_gamma", initializer="ones")
            self.recurrent_gamma = self.add_weight(shape=(width,), name="recurrent_gamma", initializer="ones")
            self.cell_gamma = self.add_weight(shape=(self.units,), name="cell_gamma", initializer="ones")
            self.cell_beta = self.add_weight(shape=(self.units,), name="cell_beta", initializer="zeros")

    def _first_bias(self, shape, dtype=None):
        """The bias before training: the blocks of the gates one by one."""
        units, blocks = self.units, shape[0] // self.units
        parts = [self.bias_initializer((units,), dtype=dtype) for _ in range(blocks)]
        forget = 0 if self.coupled_gates else 1
        if self.chrono is None:
            if self.forget_bias != 0:
                parts[forget] = ops.full((units,), self.forget_bias, dtype=dtype)
        else:
            lags = keras.random.uniform((units,), 1.0, self.chrono - 1.0, dtype=dtype, seed=self.seed_generator)
            parts[forget] = ops.log(lags)
            if not self.coupled_gates:
                parts[0] = -ops.log(lags)
        return ops.concatenate(parts)

    def draw_for_sequence(self):
        """Drop connections of the recurrent kernel."""
        if self.recurrent_dropconnect == 0:
            return None
        kernel = as_tensor(self.recurrent_kernel, self.compute_dtype)
        return masked_kernel(kernel, self.recurrent_dropconnect, self.seed_generator)

    def call(self, inputs, states, training=False):
        """Make one step."""
        h, c = states
        u = self.units
        recurrent_kernel, seen = self.recurrent_kernel, h
        if training:
            if self.dropout > 0:
                inputs = inputs * self.input_mask_for(inputs)
            if self.recurrent_dropout > 0:
                seen = h * self.state_mask_for(h)
            if self.recurrent_dropconnect > 0:
                recurrent_kernel = ops.cast(self.other_draw_now(), self.compute_dtype)
        x, r = ops.matmul(inputs, self.kernel), ops.matmul(seen, recurrent_kernel)
        if self.layer_norm:
            x = normalize(x, self.layer_norm_epsilon)[0] * self.kernel_gamma
            r = normalize(r, self.layer_norm_epsilon)[0] * self.recurrent_gamma
        z = x + r
        if self.bias is not None:
            z = z + self.bias
        z = [z[:, k : k + u] for k in range(0, z.shape[-1], u)]
        gates, last = z[:-2], z[-1]
        if self.peephole is not None:
            looks = self._looks()
            gates = [gate + look(c) for gate, look in zip(gates, looks, strict=False)]
        gates = [self.recurrent_activation(gate) for gate in gates]
        f = gates[-1]
        i = 1 - f if self.coupled_gates else gates[0]
        new = f * c + i * self.activation(z[-2])
        if self.peephole is not None:
            last = last + looks[-1](new)
        shown = new
        if self.layer_norm:
            shown = normalize(new, self.layer_norm_epsilon)[0] * self.cell_gamma + self.cell_beta
        out = self.recurrent_activation(last) * self.activation(shown)
        if self.projection_kernel is not None:
            out = ops.matmul(out, self.projection_kernel)
        states = zoned_states(self, [out, new], [h, c], training)
        output = ops.concatenate(states, axis=-1) if self.output_cell_state else states[0]
        return output, states

    def _looks(self):
        """What each gate adds of the cell state, as functions of it."""
        u, p = self.units, ops.convert_to_tensor(self.peephole_kernel)
        if self.peephole == "diagonal":
            return [lambda c, row=p[k]: c * row for k in range(p.shape[0])]
        return [lambda c, block=p[:, k : k + u]: ops.matmul(c, block) for k in range(0, p.shape[1], u)]

    @property
    def has_sequence_plan(self):
        """Whether a whole sequence can be run at once: with tanh and sigmoid."""
        return tanh_and_sigmoid(self)

    def sequence_plan(self, sequences, training):
        """Return how the cell runs over `sequences` of shape (batch, steps, features)."""
        dtype, u = self.compute_dtype, self.units
        weights = cast_weights(dtype, bias=self.bias, projection=self.projection_kernel)
        constants, recurrent_kernel = {}, self.recurrent_kernel
        if training:
            if self.dropout > 0:
                sequences = sequences * ops.expand_dims(self.input_mask_for(sequences[:, 0]), 1)
            if self.recurrent_dropout > 0:
                constants["recurrent_mask"] = self.state_mask_for(None)
            if self.recurrent_dropconnect > 0:
                recurrent_kernel = self.other_draw_now()
        weights["recurrent_kernel"] = as_tensor(recurrent_kernel, dtype)
        if self.peephole is not None:
            p = as_tensor(self.peephole_kernel, dtype)
            rows = self.peephole == "diagonal"
            weights["peephole_gates"] = ops.reshape(p[:-1], (-1,)) if rows else p[:, :-u]
            weights["peephole_output"] = p[-1] if rows else p[:, -u:]
        kernel = as_tensor(self.kernel, dtype)
        if self.layer_norm:
            weights |= cast_weights(
                dtype, recurrent_gamma=self.recurrent_gamma, cell_gamma=self.cell_gamma, cell_beta=self.cell_beta
            )
            gamma = as_tensor(self.kernel_gamma, dtype)
            sequences = normalized_product(sequences, kernel, gamma, self.layer_norm_epsilon, kernel.shape[1:])
            kernel = None
        rule = LSTMRule(
            u,
            coupled=self.coupled_gates,
            peephole=self.peephole,
            epsilon=self.layer_norm_epsilon if self.layer_norm else None,
            projected=self.projection_kernel is not None,
            dropped="recurrent_mask" in constants,
        )
        rule, steps = zoned_rule(self, rule, sequences, self.state_size, training)
        outputs = (0, 1) if self.output_cell_state else (0,)
        return SequencePlan(rule, sequences, kernel, weights, steps, constants, outputs)

    def get_config(self):
        """Return the constructor arguments."""
        config = super().get_config()
        del config["unit_forget_bias"]
        return {
            **config,
            "forget_bias": self.forget_bias,
            "chrono": self.chrono,
            "peephole": self.peephole,
            "layer_norm": self.layer_norm,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "coupled_gates": self.coupled_gates,
            "proj_units": self.proj_units,
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
            "recurrent_dropconnect": self.recurrent_dropconnect,
            "zoneout": self.zoneout,
            "output_cell_state": self.output_cell_state,
        }
