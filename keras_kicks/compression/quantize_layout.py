"""Where a model is rounded in quantization-aware training, so that a converter finds each tensor's range."""

import dataclasses

import keras

from keras_kicks._errors import expect
from keras_kicks.layers.activation.maxout import Maxout
from keras_kicks.layers.activation.rrelu import RReLU

L = keras.layers
_WEIGHTS = {
    L.Dense: {"kernel": "per_tensor"},
    L.Conv2D: {"kernel": "per_channel"},
    L.DepthwiseConv2D: {"kernel": "per_channel"},
    L.Conv2DTranspose: {"kernel": "per_tensor"},
}
# What computes new values, so that its output needs a range.
_COMPUTING = (L.ReLU, L.LeakyReLU, RReLU, L.Add, L.Subtract, L.Multiply, L.Concatenate, L.UpSampling2D)
_COMPUTING += (L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D)
# What moves, selects or averages values (which LiteRT does in the range of the input), does nothing in inference, or
# has a range that is known beforehand.
_PASSING = (L.Flatten, L.Reshape, L.Permute, L.Softmax, L.Identity, L.ActivityRegularization, Maxout)
_PASSING += (L.AveragePooling1D, L.AveragePooling2D)
_PASSING += (L.Cropping1D, L.Cropping2D, L.Cropping3D, L.ZeroPadding1D, L.ZeroPadding2D)
_PASSING += (L.MaxPooling1D, L.MaxPooling2D, L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D)
_PASSING += (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D, L.GaussianDropout, L.GaussianNoise)
_PASSING += (L.RandomFlip, L.RandomRotation, L.RandomTranslation, L.RandomZoom, L.RandomBrightness, L.RandomContrast)
_FOLDED = (L.Conv2D, L.DepthwiseConv2D, L.Dense)
# An activation is one with what comes before it (relu), has a known range (softmax), or is composed of several steps.
_AFTER = {"linear", "relu", "relu6", "silu", "gelu"}
_BEFORE = {"softmax", "sigmoid", "tanh", "silu", "gelu"}


@dataclasses.dataclass
class Placement:
    """Where the values of a layer are rounded.

    Attributes:
        weights: Kinds of rounding by name of a weight.
        activation: Whether the layer's wrapper takes over its activation.
        before: Whether the input of the activation is rounded.
        after: Whether the output is.
    """

    weights: dict = dataclasses.field(default_factory=dict)
    activation: bool = False
    before: bool = False
    after: bool = False


def placements(owner, nodes, chosen):
    """Return by name the `Placement` of each layer that is to be wrapped.

    Args:
        owner: Name for the error messages.
        nodes: From `layer_graph`.
        chosen: Dict from the names of the layers to quantize to a `Placement` that was asked for, or None.

    Raises:
        TypeError: what is called is no layer.
        ValueError: expected layers that can be quantized.
    """
    chain = {name: _link(nodes, name, chosen) for name in chosen}
    found = {}
    for name, asked in chosen.items():
        layer, link = nodes[name].layer, chain[name]
        placement = asked or _placement(owner, layer, None if link is None else nodes[link].layer)
        if placement is not None:
            found[name] = placement
    for name in found:
        layer, link = nodes[name].layer, chain[name]
        folds = type(layer) is L.BatchNormalization or (_is_relu(layer) and _precedes_relu(nodes, link))
        if folds and link in found:
            found[link].after = False
        elif type(layer) is L.Concatenate and found[name].after:
            for source in nodes[name].inputs:
                # What is put together has one range, that of the whole.
                known = source in found and chosen[source] is None and not found[source].weights
                if known and nodes[source].feeds_one():
                    found[source].after = False
    return found


def _link(nodes, name, chosen):
    """Return the name of the one layer before this one that feeds nothing else, or None."""
    inputs = nodes[name].inputs
    alone = len(inputs) == 1 and nodes[name].calls == 1 and inputs[0] in chosen and nodes[inputs[0]].feeds_one()
    if not alone or chosen[inputs[0]] is not None:
        return None
    before = nodes[inputs[0]].layer
    # A convolution of a sequence ends with a reshape that leaves the channels as they are.
    keeps = isinstance(before, L.Reshape) and before.target_shape[-1] == before.input.shape[-1]
    return _link(nodes, inputs[0], chosen) if keeps else inputs[0]


def _placement(owner, layer, before):
    remedy = "Use the layer for it, such as keras.layers.Add."
    expect(isinstance(layer, L.Layer), owner, "layers, not operations", remedy, TypeError, operation=layer.name)
    kind = type(layer)
    if kind in _PASSING or (kind is L.UpSampling2D and layer.interpolation != "nearest"):
        return None
    remedy = "Name the `layers` to quantize, or say how by quantize_annotate_layer."
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    expect(last, owner, "layers with channels last", remedy, layer=layer.name)
    if kind in _WEIGHTS or kind is L.Activation:
        return _with_activation(owner, layer, _WEIGHTS.get(kind, {}))
    known = kind in _COMPUTING
    if kind is L.ReLU:
        known = _is_relu(layer)
        remedy = "It has to be one of relu or relu6; LeakyReLU has slopes."
    if kind is L.BatchNormalization:
        known = type(before) in _FOLDED and _is_linear(before) and layer.axis in (-1, len(layer.input.shape) - 1)
        remedy = (
            "It has to normalize the last axis, after a quantized convolution or Dense layer (Conv2DTranspose is none) "
            "without activation that feeds nothing else."
        )
    expect(known, owner, "layers that can be quantized", remedy, layer=layer.name, kind=kind.__name__)
    return Placement(after=True)


def _with_activation(owner, layer, weights):
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    rule = f"activations among {', '.join(sorted(_AFTER | _BEFORE))}"
    remedy = "Name the `layers` to quantize."
    expect(name in _AFTER | _BEFORE, owner, rule, remedy, layer=layer.name, activation=name)
    # What a transposed convolution computes is an integer before any activation.
    alone = type(layer) is L.Conv2DTranspose and name != "linear"
    # What an activation of its own gets was rounded by the layer before.
    before = (name in _BEFORE or alone) and bool(weights)
    after = name in _AFTER and (bool(weights) or name != "linear")
    return Placement(dict(weights), True, before, after) if weights or before or after else None


def _is_relu(layer):
    if isinstance(layer, L.ReLU):
        return not layer.negative_slope and not layer.threshold and layer.max_value in (None, 6)
    return type(layer) is L.Activation and getattr(layer.activation, "__name__", "") in ("relu", "relu6")


def _precedes_relu(nodes, name):
    layer = None if name is None else nodes[name].layer
    return type(layer) in (*_FOLDED, L.Add, L.BatchNormalization) and _is_linear(layer)


def _is_linear(layer):
    return getattr(layer, "activation", keras.activations.linear) is keras.activations.linear
