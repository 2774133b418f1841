"""A model that is as it was after it was called."""

import contextlib

import keras
import numpy as np
from keras import ops, tree


@contextlib.contextmanager
def unchanged(model, recurrent):
    """Give a model back the state that calls within change: of recurrent layers, statistics, seeds and metrics.

    Args:
        model: A built model or layer.
        recurrent: The recurrent layers in it: the states of those that are stateful are no variables of the model.
    """
    variables = [v for v in model.variables if not v.trainable]
    if isinstance(model, keras.Model):
        variables += model.metrics_variables
    variables += tree.flatten([layer.states for layer in recurrent if layer.states is not None])
    before = [np.array(ops.convert_to_numpy(v)) for v in variables]  # A copy: torch shares the memory.
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
