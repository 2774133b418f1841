"""A model that computes in float32 for a while."""

import contextlib

import keras

from keras_kicks.compression.keras_layers import all_layers, graph_of, set_dtype

_NARROW = ("float16", "bfloat16")


@contextlib.contextmanager
def as_float32(model):
    """Let every layer of a model that computes in float16 or bfloat16 compute in float32 within the block.

    Files for LiteRT are computed in float32 or int8, whatever a model was trained with.
    """
    layers = all_layers(model)
    layers += [graph for layer in layers if (graph := graph_of(layer)) is not None]
    policies = [(layer, layer.dtype_policy) for layer in layers if layer.compute_dtype in _NARROW]
    # A map of policies is shared by layers, each of which takes its own from it: it cannot be set back.
    policies = [pair for pair in policies if not isinstance(pair[1], keras.dtype_policies.DTypePolicyMap)]
    # A model that was built on 16-bit inputs, as a nested Sequential, casts what it is given to them.
    inputs = [layer for layer in layers if isinstance(layer, keras.layers.InputLayer)]
    inputs += [x for layer in layers for x in getattr(layer, "inputs", None) or [] if hasattr(x, "dtype")]
    dtypes = [(x, x.dtype) for x in inputs if x.dtype in _NARROW]
    try:
        for layer, _ in policies:
            layer.dtype_policy = "float32"
        for x, _ in dtypes:
            set_dtype(x, "float32")
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy
        for x, dtype in dtypes:
            set_dtype(x, dtype)
