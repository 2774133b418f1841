"""What a cell draws once for a whole sequence: Keras's recurrent layers ask for it before their loop."""

from keras import ops

# Keras's layers draw for cells of this class alone, and it has no public name.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # noqa: TID251

from keras_kicks.ops.dropconnect import draw_mask


class SequenceDraws(DropoutRNNCell):
    """Draws of a cell with `dropout`, `recurrent_dropout` and `seed_generator`: one of each for a whole sequence.

    Unlike Keras's, one mask serves all gates, and replicas draw different ones. A cell that is called by itself,
    without a recurrent layer around it, draws in each call.
    """

    in_sequence = False
    input_mask = None
    state_mask = None
    other_draw = None

    def get_dropout_mask(self, step_input):
        """Draw the mask of the inputs, of shape (batch, features), before a loop; None without dropout."""
        if self.input_mask is None:
            self.input_mask = self._draw_mask(self.dropout, step_input)
        return self.input_mask

    def get_recurrent_dropout_mask(self, step_input):
        """Draw the mask of the hidden state, of shape (batch, units), and all else, before a loop."""
        if not self.in_sequence:
            self.in_sequence = True
            self.state_mask = self._draw_mask(self.recurrent_dropout, step_input)
            self.other_draw = self.draw_for_sequence()
        return self.state_mask

    def draw_for_sequence(self):
        """Return what else a sequence needs, such as a kernel with dropped connections."""

    def reset_dropout_mask(self):
        """Forget the mask of the inputs, after a loop."""
        self.input_mask = None

    def reset_recurrent_dropout_mask(self):
        """Forget all else, after a loop."""
        self.in_sequence, self.state_mask, self.other_draw = False, None, None

    def input_mask_for(self, inputs):
        """Return the mask of this sequence's inputs, or outside of a loop a new one."""
        return self.input_mask if self.in_sequence else self._draw_mask(self.dropout, inputs)

    def state_mask_for(self, state):
        """Return the mask of this sequence's states, or outside of a loop a new one."""
        return self.state_mask if self.in_sequence else self._draw_mask(self.recurrent_dropout, state)

    def other_draw_now(self):
        """Return what else was drawn for this sequence, or outside of a loop a new one."""
        return self.other_draw if self.in_sequence else self.draw_for_sequence()

    def _draw_mask(self, rate, x):
        if rate == 0:
            return None
        return ops.cast(draw_mask(ops.shape(x), rate, self.seed_generator, per_replica=True), x.dtype)


class InnerDraws(DropoutRNNCell):
    """Draws of a cell that has another one inside, `inner_cell`, or None: it has that one draw."""

    def inner_input(self, step_input):
        """Return something of the shape of what the cell inside is called with."""
        return step_input

    def _inner(self):
        """The cell inside if it draws anything."""
        return self.inner_cell if isinstance(self.inner_cell, DropoutRNNCell) else None

    def get_dropout_mask(self, step_input):
        """Have the cell inside draw."""
        if self._inner() is not None:
            self._inner().get_dropout_mask(self.inner_input(step_input))

    def get_recurrent_dropout_mask(self, step_input):
        """Have the cell inside draw."""
        if self._inner() is not None:
            self._inner().get_recurrent_dropout_mask(step_input)

    def reset_dropout_mask(self):
        """Have the cell inside forget."""
        if self._inner() is not None:
            self._inner().reset_dropout_mask()

    def reset_recurrent_dropout_mask(self):
        """Have the cell inside forget."""
        if self._inner() is not None:
            self._inner().reset_recurrent_dropout_mask()
