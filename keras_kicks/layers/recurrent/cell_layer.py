"""A recurrent layer that makes its own cell."""

import keras

from keras_kicks.layers.recurrent.rnn import RNN

# Of the layer, not of its cell, where both have an argument of that name.
_OF_THE_LAYER = ("name", "trainable", "dtype")


class CellLayer(RNN):
    """Base class: the layer's config is that of its cell and that of the loop, side by side."""

    def __init__(self, cell, **kwargs):
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    @property
    def units(self):
        """Width of the cell."""
        return self.cell.units

    def get_config(self):
        """Return the constructor arguments."""
        config = super().get_config()
        del config["cell"]
        cell = {name: value for name, value in self.cell.get_config().items() if name not in _OF_THE_LAYER}
        return {**cell, **config}

    @classmethod
    def from_config(cls, config):
        """Make the layer from its config."""
        return cls(**config)


def cell_arguments(kwargs):
    """Return the base layer arguments that a layer shares with its cell."""
    return {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
