"""Keras's RNN, with whole sequences at once for cells that can."""

import keras
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.layers.recurrent.sequence_draws import SequenceDraws
from keras_kicks.layers.recurrent.sequence_plan import has_plan, plan_of
from keras_kicks.ops.recurrence import recur
from keras_kicks.ops.recurrence_rule import Masked


@keras.saving.register_keras_serializable(package="keras_kicks")
class RNN(keras.layers.RNN):
    """`keras.layers.RNN`, which runs the cells of this package, and Keras's SimpleRNNCell, in a faster loop.

    The products with the inputs of all steps are one product before the loop, and the gradient through time is written
    by hand, with one product for the gradients of the weights after the loop. Values are those of Keras's loop, which
    serves all other cells, activations besides tanh and sigmoid, and unroll=True. A `StackedRNNCells` runs cell by cell
    where all of its cells can. Where gradients are not needed (training=False), nothing is kept for them; one that is
    asked for all the same runs the sequence once more.

    Args:
        cell: A cell, a list of cells or a `keras.layers.StackedRNNCells`.
        return_sequences: Whether to return the outputs of all steps.
        return_state: Whether to return the last states too.
        go_backwards: Whether to run from the last step to the first; outputs are then in that order.
        stateful: Whether the last states are the next batch's first ones.
        unroll: Whether to write out the steps, in Keras's loop.
        zero_output_for_mask: Whether outputs of masked steps are zero, and not those of the step before.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        sequences: Shape (batch, steps, features).
        initial_state: List of the first states; zeros by default.
        mask: Boolean, shape (batch, steps), or None.
        training: Passed to the cell.

    Returns:
        Shape (batch, units), or (batch, steps, units) with `return_sequences`; with `return_state` the last states
        after it.

    Raises:
        ValueError: expected a cell with `call` and `state_size`; at least one step.

    Masking:
        Keeps the states in masked steps; passes the mask on with `return_sequences`. Rows that are masked altogether
        give zeros, and keep their first states.

    Source:
        `keras.layers.RNN`. One product for all steps: Appleyard, Kocisky and Blunsom 2016, arXiv:1604.01946.

    Example:
        >>> import numpy as np
        >>> layer = RNN(keras.layers.SimpleRNNCell(4), return_sequences=True)
        >>> tuple(layer(np.ones((2, 5, 3))).shape)
        (2, 5, 4)
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
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

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """Run the cell over the sequences."""
        steps = sequences.shape[1]
        expect(steps != 0, type(self).__name__, "at least one step", shape=tuple(sequences.shape))
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        finally:
            # Masks of a call that failed are not those of the next one.
            for cell in getattr(self.cell, "cells", [self.cell]):
                if isinstance(cell, SequenceDraws):
                    cell.reset_dropout_mask()
                    cell.reset_recurrent_dropout_mask()

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the loop: whole sequences at once, or Keras's."""
        cells = getattr(self.cell, "cells", [self.cell])
        if self.unroll or not all(has_plan(cell) for cell in cells):
            return super().inner_loop(sequences, initial_state, mask=mask, training=training)
        mask = keras.tree.flatten(mask)[0] if mask is not None else None
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        if mask is not None:
            mask = ops.expand_dims(ops.transpose(ops.cast(mask, "bool")), -1)
        states = keras.tree.flatten(initial_state)
        last_states = []
        for cell in cells:
            count = len(keras.tree.flatten(cell.state_size))
            first, states = states[:count], states[count:]
            outputs, last = self._run(cell, sequences, first, mask, training)
            last_states += last
            sequences = ops.transpose(outputs, (1, 0, 2)) if cell is not cells[-1] else None
        outputs, last = self._shown(outputs, mask)
        outputs = ops.transpose(outputs, (1, 0, 2)) if self.return_sequences else ops.expand_dims(last, 1)
        return last, outputs, keras.tree.pack_sequence_as(initial_state, last_states)

    def _run(self, cell, sequences, states, mask, training):
        """Return the outputs of one cell, steps first, and its last states."""
        plan = plan_of(cell, sequences, training)
        rule, steps = plan.rule, plan.steps
        if mask is not None:
            rule, steps = Masked(rule), (*steps, mask)
        outputs, last = recur(
            rule,
            ops.transpose(plan.inputs, (1, 0, 2)),
            plan.kernel,
            plan.weights,
            tuple(states),
            steps,
            plan.constants,
            plan.outputs,
            keep=bool(training),
        )
        return outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1), last

    def _shown(self, outputs, mask):
        """Return the outputs that masked steps show, and the last one."""
        if mask is not None:
            if not self.zero_output_for_mask:
                # Before the first step that counts there is no output to repeat: Keras has zeros there.
                mask = ops.cumsum(ops.cast(mask, "int32"), axis=0) > 0
            outputs = ops.where(mask, outputs, ops.zeros_like(outputs))
        return outputs, outputs[-1]
