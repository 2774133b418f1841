"""A cell around another cell."""

import inspect

import keras

from keras_kicks._errors import expect
from keras_kicks.layers.recurrent.sequence_draws import InnerDraws


class CellWrapper(InnerDraws, keras.layers.Layer):
    """Base class of cells around one cell.

    Attributes:
        cell: The cell inside.
    """

    def __init__(self, cell, **kwargs):
        owner = type(self).__name__
        is_cell = isinstance(cell, keras.layers.Layer) and hasattr(cell, "state_size")
        remedy = "Pass a layer such as keras.layers.LSTMCell(8)."
        expect(is_cell, owner, "a recurrent cell", remedy, TypeError, cell=cell)
        kwargs.setdefault("dtype", cell.dtype_policy)
        super().__init__(**kwargs)
        self.cell = cell

    @property
    def inner_cell(self):
        """The cell inside."""
        return self.cell

    @property
    def cell_sizes(self):
        """Widths of the states of the cell inside, as a list."""
        return keras.tree.flatten(self.cell.state_size)

    @property
    def cell_width(self):
        """Width of the output of the cell inside."""
        return getattr(self.cell, "output_size", None) or self.cell_sizes[0]

    def call_cell(self, inputs, states, training):
        """Call the cell inside; return its output and the list of its new states."""
        output, states = call_layer(self.cell, training, inputs, states)
        return output, list(states) if keras.tree.is_nested(states) else [states]

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        """Make the cell and what is in it."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("cell")), **config)


def call_layer(layer, training, *inputs):
    """Call a layer, with `training` if it takes that."""
    takes = "training" in inspect.signature(layer.call).parameters
    return layer(*inputs, **({"training": training} if takes else {}))
