"""Connections that skip steps of time, around any recurrent cell."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks.layers.recurrent.cell_wrapper import CellWrapper


@keras.saving.register_keras_serializable(package="keras_kicks")
class SkipCell(CellWrapper):
    """Gives a cell the hidden state of `skip` steps before: besides the last one, or in its place.

        h_t = cell([x_t, h_{t-skip}], h_{t-1})       last=True, skip connections
        h_t = cell(x_t, h_{t-skip})                  last=False, a dilated recurrent network

    Beside the inputs, the older state has a kernel of its own in every gate: a simple cell computes
    tanh(x_t W + h_{t-skip} V + h_{t-1} U + b). From one state to another `skip` steps later there is then a way
    with one step. Without the last state the network falls into `skip` interleaved ones, each on a coarser scale of
    time; a stack of them with skips 1, 2, 4, ... is `dilated_cells`.

    Args:
        cell: A recurrent cell.
        skip: Steps back, >= 1.
        last: Whether the cell also has the states of the last step.
        **kwargs: Base layer arguments, such as `name`; the dtype policy is the cell's.

    Call arguments:
        inputs: Shape (batch, features).
        states: With `last`, the cell's states and then the outputs of the skip - 1 steps before the last one, newest
            first, where the cell's first state is the last output; else the cell's states of the last `skip` steps,
            newest first.
        training: Passed to the cell.

    Returns:
        The output of the cell and the list of new states.

    Raises:
        TypeError: `cell` is no recurrent cell, `skip` no integer.
        ValueError: expected skip >= 1; with `last` a cell whose output is its first state.

    Masking:
        `keras.layers.RNN` keeps the states where a sequence is masked: masked steps are not counted.

    Source:
        Lin, Horne, Tino and Giles 1996; Zhang et al. 2016, arXiv:1602.08210. Dilated: Chang et al. 2017,
        arXiv:1710.02224.

    Example:
        >>> import numpy as np
        >>> layer = keras.layers.RNN(SkipCell(keras.layers.LSTMCell(4), skip=3), return_sequences=True)
        >>> tuple(layer(np.ones((2, 7, 5))).shape)
        (2, 7, 4)
    """

    def __init__(self, cell, skip, last=True, **kwargs):
        owner = type(self).__name__
        super().__init__(cell, **kwargs)
        expect_integer(owner, skip=skip)
        expect(skip >= 1, owner, "skip >= 1", skip=skip)
        same = self.cell_width == self.cell_sizes[0]
        rule = "a cell whose output is its first state, or last=False"
        expect(same or not last, owner, rule, output_size=self.cell_width, state_size=self.cell_sizes)
        self.skip = int(skip)
        self.last = bool(last)
        older = [self.cell_width] * (skip - 1) if last else self.cell_sizes * (skip - 1)
        self.state_size = [*self.cell_sizes, *older]
        self.output_size = self.cell_width

    def build(self, input_shape):
        """Build the cell for the inputs and the older state beside them."""
        if not self.cell.built:
            width = self.cell_width if self.last else 0
            self.cell.build((*input_shape[:-1], input_shape[-1] + width))

    def inner_input(self, step_input):
        """Return something of the shape of what the cell inside is called with."""
        if not self.last:
            return step_input
        return ops.concatenate([step_input, ops.zeros((ops.shape(step_input)[0], self.cell_width))], axis=-1)

    def call(self, inputs, states, training=False):
        """Make one step."""
        states, count = list(states), len(self.cell_sizes)
        if not self.last:
            output, new = self.call_cell(inputs, states[-count:], training)
            return output, [*new, *states[:-count]]
        own, older = states[:count], states[count:]
        known = [own[0], *older]
        output, new = self.call_cell(ops.concatenate([inputs, known[-1]], axis=-1), own, training)
        return output, [*new, *known[:-1]]

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "skip": self.skip, "last": self.last}


def dilated_cells(cells, base=2):
    """Return one cell that runs cells on top of each other, the k-th with the state of base^k steps before.

    Args:
        cells: Recurrent cells, the lowest first, at least one.
        base: Ratio of the scales of time of neighbours, >= 1.

    Returns:
        A `keras.layers.StackedRNNCells` of `SkipCell`s with last=False and skips 1, base, base^2, ...

    Raises:
        TypeError: `base` is no integer.
        ValueError: expected at least one cell; base >= 1.

    Source:
        Chang et al. 2017, arXiv:1710.02224.

    Example:
        >>> import numpy as np
        >>> cell = dilated_cells([keras.layers.GRUCell(4) for _ in range(3)])
        >>> [inside.skip for inside in cell.cells]
        [1, 2, 4]
        >>> tuple(keras.layers.RNN(cell)(np.ones((2, 9, 5))).shape)
        (2, 4)
    """
    expect(len(cells) > 0, "dilated_cells", "at least one cell", cells=cells)
    expect_integer("dilated_cells", base=base)
    expect(base >= 1, "dilated_cells", "base >= 1", base=base)
    return keras.layers.StackedRNNCells([SkipCell(cell, base**k, last=False) for k, cell in enumerate(cells)])
