"""The statistics of BatchNormalization for weights that were changed without training."""

import keras
from keras import ops

from keras_kicks._errors import expect, expect_integer
from keras_kicks._layer_tree import parts_by_path
from keras_kicks.ops.gradients import no_gradients


def update_batch_normalization(model, data, batch_size=32):
    """Estimate mean and variance of every BatchNormalization layer that is trainable anew.

    Each becomes the mean over the batches, weighted by their size, with all other weights as they are. Needed after
    weights were averaged (`keras_kicks.optimizers.StochasticWeightAveraging`, `use_ema`). Frozen layers keep theirs.

    Args:
        model: A built Keras model. Its layers run in training mode.
        data: Array of inputs, list or dict of such arrays, or an iterable of batches of inputs, such as a
            `tf.data.Dataset`; of a batch that is a tuple the first part is taken.
        batch_size: Of arrays, >= 1.

    Returns:
        The number of layers that were updated. Without any, no data is read.

    Raises:
        TypeError: `batch_size` is no integer.
        ValueError: expected batch_size >= 1; at least one batch.

    Source:
        Izmailov, Podoprikhin, Garipov, Vetrov and Wilson 2018, arXiv:1803.05407, section 3.2.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
        >>> update_batch_normalization(model, keras.ops.convert_to_tensor([[1.0], [3.0]]))
        1
        >>> model.layers[0].moving_mean.numpy().tolist()
        [2.0]
    """
    owner = "update_batch_normalization"
    expect_integer(owner, batch_size=batch_size)
    expect(batch_size >= 1, owner, "batch_size >= 1", batch_size=batch_size)
    kind = keras.layers.BatchNormalization
    layers = [x for x in parts_by_path(model).values() if isinstance(x, kind) and x.trainable]
    if not layers:
        return 0
    momenta, seen = [layer.momentum for layer in layers], 0
    try:
        for batch in _batches(data, batch_size):
            rows = int(ops.shape(keras.tree.flatten(batch)[0])[0])
            for layer in layers:
                layer.momentum = seen / (seen + rows)
            with no_gradients():
                model(batch, training=True)
            seen += rows
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    expect(seen > 0, owner, "at least one batch", batches=0)
    return len(layers)


def _batches(data, batch_size):
    """Go through the batches of inputs."""
    parts = list(data.values()) if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else [data]
    if parts and all(hasattr(x, "shape") for x in parts):
        arrays = keras.tree.flatten(data)
        for start in range(0, len(arrays[0]), batch_size):
            yield keras.tree.map_structure(lambda x, start=start: x[start : start + batch_size], data)
        return
    for batch in data:
        yield batch[0] if isinstance(batch, tuple) else batch
