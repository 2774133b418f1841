"""Evaluating a model in the middle of `fit`, unnoticed by it."""

import types

import keras
import numpy as np
from keras import ops

from keras_kicks._errors import expect
from keras_kicks.callbacks.training_snapshot import sync


def evaluate_quietly(model, data, batch_size=None, steps=None):
    """Return the metrics of a model on some data, by name, and leave no trace.

    The running metrics of `fit` go on where they were, and so do random layers.

    Args:
        model: A compiled model, in `fit`.
        data: (x, y), (x, y, sample_weight), or what else `evaluate` takes as x.
        batch_size: As in `evaluate`.
        steps: As in `evaluate`.

    Returns:
        Dict of floats.
    """
    sync(model)
    # The seeds of layers that draw also in inference; such layers leave all else alone.
    seeds = [v for v in model.non_trainable_variables if "int" in keras.backend.standardize_dtype(v.dtype)]
    kept = [(v, np.array(ops.convert_to_numpy(v))) for v in (*model.metrics_variables, *seeds)]
    module_trains = getattr(model, "training", None)  # Of torch; Keras has no such attribute.
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    logs = model.evaluate(x, y, batch_size, sample_weight=weight, steps=steps, verbose=0, return_dict=True)
    for variable, value in kept:
        variable.assign(value)
    if keras.backend.backend() == "torch":
        model.train(module_trains)
    return {name: float(value) for name, value in logs.items()}


def expect_data(owner, name, data):
    """Raise TypeError if data can be read but once, or are none."""
    once = isinstance(data, types.GeneratorType)
    remedy = "Pass arrays, a tf.data.Dataset, a PyDataset or a DataLoader."
    expect(not once, owner, f"{name} that can be read again and again", remedy, TypeError, **{name: data})
