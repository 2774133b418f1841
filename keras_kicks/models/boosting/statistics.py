"""What layers of normalization have learned from data: it is in their variables, and in no config of a model."""

import keras
import numpy as np
from keras import ops

from keras_kicks.models.other_values import normalizations


def statistics(model):
    """Return the values of the variables of each `Normalization` of a model; none of one that is not built."""
    return [[np.array(ops.convert_to_numpy(v)) for v in layer.weights] for layer in normalizations(model)]


def set_statistics(model, values):
    """Give a built model what `statistics` has returned."""
    for layer, of_layer in zip(normalizations(model), values, strict=True):
        for variable, value in zip(layer.weights, of_layer, strict=False):
            variable.assign(value)


def same(one, other):
    """Return whether the statistics of two models of one architecture are the same."""
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)
