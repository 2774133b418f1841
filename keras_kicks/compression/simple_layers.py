"""Layers as sequences of simpler ones, between which a converter to integers needs ranges."""

import keras

from keras_kicks.compression.rebuild import copied
from keras_kicks.layers.activation.maxout import Maxout
from keras_kicks.layers.activation.maxout_dense import MaxoutDense
from keras_kicks.layers.output.output_head import OutputHead

L = keras.layers
_SHARED = ("trainable", "use_bias", "bias_initializer", "bias_regularizer", "bias_constraint")


def simplified(layer, normalized=False):
    """Return layers in float32 that compute, one after the other, what a layer does, with the same weights in order.

    Args:
        layer: A built layer.
        normalized: Whether it is a Dense layer that BatchNormalization follows.

    Returns:
        A list; of one copy for layers that are simple.
    """
    if normalized and len(layer.get_build_config()["input_shape"]) <= 4:
        return _convolution_of_points(layer, layer.get_config())
    for kind, split in _SPLITS.items():
        if type(layer) is kind and getattr(layer, "data_format", None) != "channels_first":
            return split(layer, layer.get_config())
    return [copied(layer, dtype="float32")]


def _separable(layer, config):
    names = ("kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate", "data_format", "trainable")
    depthwise = {name: config[name] for name in names}
    depthwise |= {f"depthwise_{part}": config[f"depthwise_{part}"] for part in ("regularizer", "constraint")}
    pointwise = {name: config[name] for name in (*_SHARED, "filters", "activation", "activity_regularizer")}
    pointwise |= {f"kernel_{part}": config[f"pointwise_{part}"] for part in ("regularizer", "constraint")}
    return [
        L.DepthwiseConv2D(name=f"{layer.name}_depthwise", use_bias=False, dtype="float32", **depthwise),
        L.Conv2D(kernel_size=1, name=f"{layer.name}_pointwise", dtype="float32", **pointwise),
    ]


def _convolution_of_a_row(layer, config):
    """A sequence is an image of one row."""
    (size,), (stride,), (dilation,) = layer.kernel_size, layer.strides, layer.dilation_rate
    names = (*_SHARED, "filters", "groups", "activation", "activity_regularizer")
    names += ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
    causal = layer.padding == "causal"
    convolution = L.Conv2D(
        kernel_size=(1, size),
        strides=stride,
        dilation_rate=(1, dilation),
        padding="valid" if causal else layer.padding,
        name=f"{layer.name}_row",
        dtype="float32",
        **{name: config[name] for name in names},
    )
    channels = layer.kernel.shape[1] * layer.groups
    layers = [L.Reshape((1, -1, channels), name=f"{layer.name}_expand"), convolution]
    if causal:
        layers.insert(1, L.ZeroPadding2D(((0, 0), (dilation * (size - 1), 0)), name=f"{layer.name}_causal"))
    return [*layers, L.Reshape((-1, layer.filters), name=f"{layer.name}_squeeze")]


def _convolution_of_points(layer, config):
    """A converter folds normalization into convolutions alone; a Dense layer is one, of each point by itself."""
    names = (*_SHARED, "activation", "activity_regularizer")
    names += ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
    settings = {name: config.get(name) for name in names}
    convolution = L.Conv2D(layer.units, 1, name=f"{layer.name}_points", dtype="float32", **settings)
    rank, channels = len(layer.get_build_config()["input_shape"]), layer.kernel.shape[0]
    if rank == 4:
        return [convolution]
    points, units = ((1,), (layer.units,)) if rank == 2 else ((-1,), (-1, layer.units))
    expand = L.Reshape((1, *points, channels), name=f"{layer.name}_expand")
    return [expand, convolution, L.Reshape(units, name=f"{layer.name}_squeeze")]


def _maxout(layer, config):
    names = (*_SHARED, "kernel_initializer", "kernel_regularizer", "kernel_constraint")
    dense = L.Dense(
        layer.units * layer.pool_size,
        name=f"{layer.name}_pieces",
        dtype="float32",
        **{name: config[name] for name in names},
    )
    maximum = Maxout(layer.pool_size, grouping="strided", name=f"{layer.name}_maximum", dtype="float32")
    activation = L.Activation(
        config["activation"],
        activity_regularizer=config["activity_regularizer"],
        name=f"{layer.name}_activation",
        dtype="float32",
    )
    return [dense, maximum, activation]


def _output_head(layer, config):
    """Of the task, nothing is needed to compute."""
    names = (*_SHARED, "kernel_initializer", "kernel_regularizer", "kernel_constraint", "activity_regularizer")
    return [L.Dense(layer.units, name=layer.name, dtype="float32", **{name: config.get(name) for name in names})]


_SPLITS = {
    L.SeparableConv2D: _separable,
    L.Conv1D: _convolution_of_a_row,
    MaxoutDense: _maxout,
    OutputHead: _output_head,
}
