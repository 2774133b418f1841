"""Ranges of activations from data."""

import keras
import numpy as np

from keras_kicks._errors import expect
from keras_kicks.compression.keras_layers import all_layers
from keras_kicks.compression.prune import expect_model
from keras_kicks.compression.samples import batches

BATCH = 32


def calibrate(model, data):
    """Set the ranges in which a quantized model rounds its activations to those that it has on data.

    In a new model they are from -6 to 6, and training moves them by a thousandth of the way in each step: outputs are
    coarse until then, or cut off; those of inputs are empty. The model runs once on the data, in inference and without
    rounding. An input gets the widest range, an activation the mean of the ranges of the batches, which is what the
    moving average of training would come to.

    Args:
        model: A model from `quantize_model`; it is changed, and returned.
        data: A few hundred samples as the model will see them: inputs in the structure of the model's, taken in
            batches of 32, or an iterable of batches such as a `tf.data.Dataset`; a tuple is (x, y), as for `fit`. For a
            model with one input, a list is one of batches.

    Returns:
        The model.

    Raises:
        TypeError: `model` is no model of Keras 3, `data` neither arrays nor iterable.
        ValueError: expected a model from quantize_model; data with a sample in it, that ends; finite activations. The
            ranges are then as before.

    Source:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        2017, arXiv:1712.05877, section 3.1.

    Example:
        >>> from keras_kicks.compression import calibrate, quantize_model
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[100.0], [100.0]]), np.zeros(1)])
        >>> x, quantized = np.array([[0.5, 0.5], [1.0, 1.0]]), quantize_model(model)
        >>> quantized.predict(x, verbose=0).ravel().round().tolist()  # cut off
        [0.0, 0.0]
        >>> calibrate(quantized, x).predict(x, verbose=0).ravel().round().tolist()
        [100.0, 200.0]
    """
    owner = "calibrate"
    expect_model(owner, model)
    layers = [layer for layer in all_layers(model) if callable(getattr(layer, "quantizers", None))]
    expect(bool(layers), owner, "a model from quantize_model", model=model.name)
    weights = [quantizer for layer in layers for quantizer in layer.quantizers()[0]]
    activations = [quantizer for layer in layers for quantizer in layer.quantizers()[1]]
    for quantizer in (*weights, *activations):
        quantizer.observe()
    complete = False
    try:
        seen = 0
        for batch in _batches(owner, model, data):
            model(batch, training=False)
            seen += 1
        expect(seen > 0, owner, "data with a sample in it", batches=seen)
        for layer in layers:
            finite = all(quantizer.is_finite() for quantizer in layer.quantizers()[1])
            expect(finite, owner, "finite activations", "Look for NaN in the data and the weights.", layer=layer.name)
        complete = True
    finally:
        for quantizer in weights:
            quantizer.settle(keep=False)
        for quantizer in activations:
            quantizer.settle(keep=complete)
    return model


def _batches(owner, model, data):
    x = data[0] if isinstance(data, tuple) and data else data
    arrays = keras.tree.flatten(x)
    # For a model with one input, a list is one of batches.
    listed = isinstance(x, list) and len(getattr(model, "inputs", None) or x) == 1
    if arrays and not listed and all(hasattr(array, "__array__") for array in arrays):
        counts = {len(array) for array in arrays}
        expect(len(counts) == 1, owner, "as many samples of each input", samples=sorted(counts))
        for start in range(0, counts.pop(), BATCH):
            yield keras.tree.map_structure(lambda array: np.asarray(array[start : start + BATCH]), x)  # noqa: B023
        return
    for batch in batches(owner, x):
        yield batch[0] if isinstance(batch, tuple) else batch
