"""Leaky units around any recurrent cell."""

import math

import keras
from keras import ops

from keras_kicks._errors import expect, expect_number, expect_seed
from keras_kicks.layers.recurrent.cell_wrapper import CellWrapper
from keras_kicks.layers.recurrent.sequence_plan import as_tensor, has_plan, plan_of
from keras_kicks.ops.recurrence_rule import Leaky


@keras.saving.register_keras_serializable(package="keras_kicks")
class LeakyCell(CellWrapper):
    """Lets the hidden state of a cell change slowly: the old one times alpha, the cell's new one times 1 - alpha.

        h' = alpha * h + (1 - alpha) * cell(x, h)

    With alpha near 1 a unit remembers for long, with alpha near 0 it forgets at once. alpha = exp(-1 / tau) for a time
    constant of tau steps. The first state of the cell, which must be its output, leaks; other states, such as the
    cell state of an LSTM, are those of the cell.

    Args:
        cell: A recurrent cell whose output is its first state.
        alpha: A number in [0, 1] for all units; "sampled", one for each unit from a time constant drawn once; or
            "learned", the same to start from, and then trained.
        time_constants: The least and the largest time constant, in steps, > 0, between which they are drawn, uniform
            on the logarithm.
        seed: None or an integer.
        **kwargs: Base layer arguments, such as `name`; the dtype policy is the cell's.

    Call arguments:
        inputs: Shape (batch, features).
        states: List of the cell's states.
        training: Passed to the cell.

    Returns:
        h' and the list of new states.

    Raises:
        TypeError: `cell` is no recurrent cell, `alpha` neither a number nor a string.
        ValueError: expected 0 <= alpha <= 1, "sampled" or "learned"; two time constants with
            0 < least <= largest; a cell whose output is its first state.

    Masking:
        `keras.layers.RNN` keeps the states where a sequence is masked.

    Source:
        Mozer 1992; El Hihi and Bengio 1995; Jaeger et al. 2007. A leak that is learned: Tallec and Ollivier 2018,
        arXiv:1804.11188.

    Example:
        >>> import numpy as np
        >>> ones = keras.layers.SimpleRNNCell(1, "linear", kernel_initializer="ones", recurrent_initializer="zeros")
        >>> layer = keras.layers.RNN(LeakyCell(ones, alpha=0.5), return_sequences=True)
        >>> keras.ops.convert_to_numpy(layer(np.ones((1, 3, 1))))[0, :, 0].tolist()
        [0.5, 0.75, 0.875]
    """

    def __init__(self, cell, alpha="learned", time_constants=(1.0, 100.0), seed=None, **kwargs):
        owner = type(self).__name__
        super().__init__(cell, **kwargs)
        if isinstance(alpha, str):
            known = alpha in ("sampled", "learned")
            expect(known, owner, 'a number in [0, 1], "sampled" or "learned" for alpha', alpha=alpha)
        else:
            expect_number(owner, alpha=alpha)
            expect(0 <= alpha <= 1, owner, "0 <= alpha <= 1", alpha=alpha)
        pair = isinstance(time_constants, (list, tuple)) and len(time_constants) == 2
        expect(pair, owner, "two time_constants, the least and the largest", time_constants=time_constants)
        for constant in time_constants:
            expect_number(owner, time_constants=constant)
        expect(0 < time_constants[0] <= time_constants[1], owner, "0 < least <= largest", time_constants=time_constants)
        expect_seed(owner, seed)
        expect(
            self.cell_width == self.cell_sizes[0],
            owner,
            "a cell whose output is its first state",
            output_size=self.cell_width,
            state_size=self.cell_sizes,
        )
        self.alpha = alpha if isinstance(alpha, str) else float(alpha)
        self.time_constants = [float(constant) for constant in time_constants]
        self.seed = seed
        self.state_size = cell.state_size
        self.output_size = self.cell_width

    def build(self, input_shape):
        """Build the cell, and draw the time constants."""
        if not self.cell.built:
            self.cell.build(input_shape)
        if isinstance(self.alpha, str):
            learned = self.alpha == "learned"
            self.leak = self.add_weight(
                shape=(self.output_size,),
                name="leak_logit" if learned else "leak",
                initializer=self._first_logit if learned else self._first_leak,
                trainable=learned,
            )

    def _first_leak(self, shape, dtype=None):
        """exp(-1 / tau), for tau uniform on the logarithm."""
        low, high = map(math.log, self.time_constants)
        logarithm = low + (high - low) * keras.random.uniform(shape, dtype=dtype, seed=self.seed)
        return ops.exp(-ops.exp(-logarithm))

    def _first_logit(self, shape, dtype=None):
        leak = self._first_leak(shape, dtype)
        return ops.log(leak) - ops.log1p(-leak)

    def current_alpha(self):
        """Return alpha of each unit, in float32 or wider, or the number."""
        wide = keras.backend.result_type(self.compute_dtype, "float32")
        if self.alpha == "learned":
            return ops.sigmoid(as_tensor(self.leak, wide))
        return as_tensor(self.leak, wide) if self.alpha == "sampled" else self.alpha

    def call(self, inputs, states, training=False):
        """Make one step."""
        old = states[0] if keras.tree.is_nested(states) else states
        _, after = self.call_cell(inputs, states, training)
        alpha = ops.cast(self.current_alpha(), self.compute_dtype)
        first = after[0] + alpha * (old - after[0])
        return first, [first, *after[1:]]

    @property
    def has_sequence_plan(self):
        """Whether the cell inside can run a whole sequence at once."""
        return has_plan(self.cell)

    def sequence_plan(self, sequences, training):
        """Return how the cell runs over `sequences` of shape (batch, steps, features)."""
        plan = plan_of(self.cell, sequences, training)
        plan.rule = Leaky(plan.rule)
        alpha = ops.cast(self.current_alpha(), self.compute_dtype)
        place = plan.weights if self.alpha == "learned" else plan.constants
        place["alpha"] = ops.broadcast_to(alpha, (self.output_size,))
        return plan

    def get_config(self):
        """Return the constructor arguments."""
        config = {"alpha": self.alpha, "time_constants": self.time_constants, "seed": self.seed}
        return {**super().get_config(), **config}
