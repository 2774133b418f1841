"""Which layers have units that can die or saturate, and how many of these do in a batch."""

import keras
from keras import ops

from keras_kicks._layer_tree import parts_by_path
from keras_kicks.layers.recurrent.tree_layer import TreeLayer
from keras_kicks.ops.replicas import sum_replicas

# A unit is saturated where the slope of its activation is less than this share of the largest slope.
FLAT = 0.1


def _saturated(limit):
    return lambda y: ops.abs(y) > limit


# Where the slope is flat, by the value: tanh' = 1 - y^2, sigmoid' = y (1 - y), softsign' = (1 - |y|)^2.
TANH = _saturated((1 - FLAT) ** 0.5)
SATURATED = {
    "tanh": TANH,
    "sigmoid": lambda y: TANH(2 * y - 1),
    "softsign": _saturated(1 - FLAT**0.5),
    "hard_tanh": lambda y: ops.abs(y) >= 1,
    "hard_sigmoid": lambda y: ops.abs(2 * y - 1) >= 1,
}
DEAD = ("relu", "relu6")


def watched_layers(model):
    """Return the layers whose activation is one of these, by path: (layer, attribute that computes it, kind).

    Not those of recurrent and recursive networks and of their cells: they are computed in loops, and choose the loop by
    their activation.
    """
    functions = _functions()
    found = {}
    for path, part in parts_by_path(model).items():
        if isinstance(part, keras.layers.ReLU):
            if not part.negative_slope and not part.threshold:
                found[path] = part, "call", "relu"
        elif isinstance(part, keras.layers.Layer) and not (hasattr(part, "state_size") or isinstance(part, TreeLayer)):
            kind = functions.get(id(getattr(part, "activation", None)))
            if kind is not None:
                found[path] = part, "activation", kind
    return found


def _functions():
    """Return the kind of each function that is known, by its identity."""
    import tensorflow as tf

    holders = (keras.activations, ops, tf.nn, tf)
    return {
        id(getattr(holder, kind)): kind for kind in (*DEAD, *SATURATED) for holder in holders if hasattr(holder, kind)
    }


def is_dead_kind(kind):
    """Whether what is counted of such an activation are dead units; otherwise saturated values."""
    return kind in DEAD


def share(layer, kind, values):
    """Return the share of dead units or of saturated values in a batch, of all replicas, as a scalar.

    Args:
        layer: The layer.
        kind: Of its activation.
        values: Its activations in a step, one tensor for each call.
    """
    if is_dead_kind(kind):
        (alive,) = sum_replicas([sum(_alive(layer, y) for y in values)])
        return ops.mean(ops.cast(ops.equal(alive, 0), "float32"))
    counted = sum(ops.sum(ops.cast(SATURATED[kind](y), "float32")) for y in values)
    size = sum(ops.cast(ops.size(y), "float32") for y in values)
    counted, size = sum_replicas([counted, size])
    return counted / size


def _alive(layer, y):
    """Return how often each unit is not 0, along the axis of channels. NaN is not 0."""
    first = getattr(layer, "data_format", None) or (len(y.shape) > 3 and keras.config.image_data_format())
    unit = 1 if first == "channels_first" else len(y.shape) - 1
    return ops.sum(ops.cast(y != 0, "float32"), axis=[axis for axis in range(len(y.shape)) if axis != unit])
