"""What compression needs of Keras that has no public name: a new part for a built layer, and what it is made of.

`tests/compression/test_keras_layers.py` fails when Keras changes one of them.
"""

import keras

from keras_kicks._layer_tree import all_layers as all_layers


def own_variables(layer):
    """Return the variables that a layer itself added to be trained, frozen or not."""
    return list(layer._trainable_variables)


def put(layer, name, value):
    """Set an attribute of a layer that is built; a layer in it becomes or ceases to be a part of it.

    Keras locks a layer once it is built.
    """
    before = getattr(layer, name, None)
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        if isinstance(before, keras.layers.Layer):
            layer._tracker.untrack(before)
        setattr(layer, name, value)
    finally:
        if locked:
            layer._tracker.lock()


def attention_parts(layer):
    """Return the parts of an attention layer that have a kernel, and the attribute that is the constraint of all.

    Keras makes them in `build`, with the one constraint of the attention layer, and saves no other. Both are None for
    another layer.
    """
    names = {
        keras.layers.MultiHeadAttention: "_kernel_constraint",
        keras.layers.GroupQueryAttention: "kernel_constraint",
    }
    for kind, name in names.items():
        if isinstance(layer, kind):
            return [part for part in all_layers(layer)[1:] if isinstance(part, keras.layers.EinsumDense)], name
    return None, None


def set_dtype(symbol, dtype):
    """Set the dtype of a symbolic input or of an InputLayer, which a model casts its inputs to."""
    symbol._dtype = dtype


def graph_of(layer):
    """Return the functional model that a Sequential runs as, which is none of its layers; None for another layer."""
    return getattr(layer, "_functional", None) if isinstance(layer, keras.Sequential) else None


def applied_variables():
    """Return the variables that the optimizer trains which is applied just now; it calls their constraints."""
    # Keras tells nobody which optimizer calls a constraint, but its name scope.
    from keras.src.backend.common import global_state  # noqa: TID251

    for scope in reversed(global_state.get_global_attribute("name_scope_stack", default=[])):
        if isinstance(scope.caller, keras.optimizers.Optimizer):
            return [variable for variable in scope.caller._trainable_variables if variable.trainable]
    raise RuntimeError(
        'PruningConstraint: expected an optimizer of Keras to apply it, with scope="global"; got none. '
        "Call optimizer.apply_gradients."
    )
