"""Gradients of a model's loss by its weights, batch by batch."""

import keras
import numpy as np
from keras import ops, tree

from keras_kicks._errors import expect
from keras_kicks._seeds import numpy_seed
from keras_kicks.diagnostics.recorded_states import training_argument


def gradient_function(owner, model, loss, training):
    """Return a function of x, y and sample weights that returns the gradients by the trainable weights.

    Args:
        owner: Name of the function that asks.
        model: A built model.
        loss: Function of y and the outputs that returns a scalar, or None for what the model was compiled with.
        training: Whether the model is called in training mode.

    Raises:
        NotImplementedError: the backend is JAX.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise NotImplementedError(f"{owner}: expected the backend tensorflow or torch; got backend={backend!r}.")

    def value(x, y, sample_weight):
        outputs = model(x, **training_argument(model, training))
        if loss is None:
            arguments = {"sample_weight": sample_weight, "training": training}
            result = model.compute_loss(x=x, y=y, y_pred=outputs, **arguments)
        else:
            result = loss(y, outputs)
        shape = tuple(result.shape)
        expect(shape == (), owner, "a loss that is a scalar", "Take the mean over the samples.", shape=shape)
        return result

    return _BACKENDS[backend](value, model.trainable_variables)


def _tensorflow(value, variables):
    import tensorflow as tf

    @tf.function(reduce_retracing=True, autograph=False)
    def gradients(x, y, sample_weight):
        with tf.GradientTape() as tape:
            result = value(x, y, sample_weight)
        found = tape.gradient(result, [v.value for v in variables], unconnected_gradients="zero")
        return [tf.cast(tf.convert_to_tensor(g), tf.float32) for g in found]

    return gradients


def _torch(value, variables):
    import torch

    def gradients(x, y, sample_weight):
        with torch.enable_grad():
            result = value(x, y, sample_weight)
        tensors = [v.value for v in variables]
        found = torch.autograd.grad(result, tensors, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g.float() for g, t in zip(found, tensors, strict=True)]

    return gradients


_BACKENDS = {"tensorflow": _tensorflow, "torch": _torch}


def batches(owner, x, y, sample_weight, batch_size, seed):
    """Yield x, y, sample weights and the number of samples of each batch.

    Args:
        owner: Name of the function that asks.
        x: Arrays in any structure.
        y: Arrays in any structure, or None.
        sample_weight: Array, or None.
        batch_size: Samples of a batch of arrays.
        seed: Of the order in which arrays are taken.
    """
    arrays = [None if part is None else tree.map_structure(np.asarray, part) for part in (x, y, sample_weight)]
    lengths = [len(a) for part in arrays for a in tree.flatten(part) if a is not None]
    expect(len(set(lengths)) == 1, owner, "as many targets as inputs", lengths=lengths)
    order = np.random.default_rng(numpy_seed(seed)).permutation(lengths[0])
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]

        def rows(a, chosen=chosen):
            return None if a is None else ops.convert_to_tensor(a[chosen])

        yield *(tree.map_structure(rows, part) for part in arrays), len(chosen)


def given_batches(data):
    """Yield x, y, sample weights and the number of samples of each batch of a dataset."""
    for batch in data:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        x, y, sample_weight = (
            None if part is None else tree.map_structure(ops.convert_to_tensor, part) for part in (x, y, sample_weight)
        )
        yield x, y, sample_weight, int(tree.flatten(x)[0].shape[0])
