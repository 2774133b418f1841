"""Quantization-aware training of Keras 3 models."""

import keras

from keras_kicks._errors import expect, expect_choice
from keras_kicks.compression.calibrate import calibrate
from keras_kicks.compression.clustered_kernel import distinct_values
from keras_kicks.compression.layer_graph import layer_graph
from keras_kicks.compression.prune import expect_model
from keras_kicks.compression.quantize_annotate import AnnotatedLayer, expect_weights
from keras_kicks.compression.quantize_choice import (
    expect_floats,
    normalized_layers,
    parts_of,
    unmarked,
    wanted_layers,
)
from keras_kicks.compression.quantize_layout import placements
from keras_kicks.compression.quantized_layer import QuantizedInput, QuantizedLayer
from keras_kicks.compression.rebuild import copied, expect_graph, input_names, is_graph, rebuilt
from keras_kicks.compression.simple_layers import simplified

# As many as 8 bits can tell apart.
MOST_CLUSTERS = 256


def quantize_model(model, calibration_data=None, layers=None, preserve_sparsity=False, preserve_clusters=False):
    """Return a copy of a model that rounds weights and activations to 8 bits, to be trained so (and then exported).

    Weights are rounded within the range of their last values, symmetrically, those of Conv1D and Conv2D for each output
    channel; activations within a moving average of their range. Where a converter makes one operation of several
    layers (a convolution or Dense layer, BatchNormalization, ReLU), only the end is rounded. Gradients pass the
    rounding as if it were not there, but for what is out of range, whose gradient is zero. If all is quantized,
    `to_tflite(quantized, path, mode="int8")` writes integers alone, without other data.

    The copy computes in float32, whatever the policy of the model; it is compiled and trained as ever. Under a
    `tf.distribute` strategy make it in the scope; replicas agree on the mean of their ranges. SeparableConv2D, Conv1D,
    MaxoutDense, and Dense before BatchNormalization become two or three layers in it.

    Args:
        model: A built Sequential or functional model, also with models in it, of Dense, Conv1D, Conv2D,
            DepthwiseConv2D, SeparableConv2D, Conv2DTranspose, BatchNormalization after one of them but the last,
            pooling, Add, Subtract, Multiply, Concatenate, ReLU, LeakyReLU, Softmax, Activation, UpSampling2D, layers
            that move values or do nothing in inference (Flatten, Reshape, Dropout, RandomFlip and so on), MaxoutDense,
            Maxout, RReLU and OutputHead; and of layers marked by `quantize_annotate_layer`. Activations are linear,
            relu, relu6, silu, gelu, sigmoid, tanh and softmax. It is not changed.
        calibration_data: What `calibrate` takes, to start from the ranges of activations; None to start from -6 to 6,
            and for inputs from nothing, so that outputs mean little before a step of training.
        layers: Layers, or their names, to quantize; a model stands for all in it. None for those that are marked, or
            all if none is. The input of a quantized layer is rounded if it is one of the model, or the output of
            another.
        preserve_sparsity: Whether weights that are zero stay zero in training, as of a model from `strip_pruning`.
        preserve_clusters: Whether kernels with a few values each keep as many, which are trained, as of a model from
            `strip_clustering`: True, or "per_channel" if each output channel has its own. That is for kernels of at
            most 256 values, and half as many as weights; the others are trained freely.

    Returns:
        The new model, not compiled.

    Raises:
        ImportError: TFMOT is not installed.
        TypeError: `model` is no model of Keras 3, or calls what is no layer, as in `x + y`.
        ValueError: expected a built Sequential or functional model with layers, of float weights that are not quantized
            or being pruned; layers that can be quantized; activations that can; layers of the model; preserve_clusters
            False, True or "per_channel", and for the last two a clustered kernel.

    Source:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        2017, arXiv:1712.05877; TensorFlow Model Optimization Toolkit, whose quantizers these are.
        Departures: weights of a Dense or convolutional layer are rounded also where a ReLU layer follows; their first
        range is that of their values, and that of zeros is not empty. A converter decides where these round: the input
        of silu, gelu and of what follows a Conv2DTranspose is rounded too, the output of AveragePooling and of smooth
        UpSampling2D is not, and a Dense layer before BatchNormalization is a convolution.

    Example:
        >>> import numpy as np
        >>> from keras_kicks.compression import quantize_model
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(64, 4))
        >>> quantized = quantize_model(model, calibration_data=x)
        >>> quantized.compile("sgd", "mse")
        >>> history = quantized.fit(x, x[:, :2], verbose=0)
        >>> len(np.unique(quantized.predict(x, verbose=0))) <= 256
        True
    """
    owner = "quantize_model"
    expect_model(owner, model)
    expect_graph(owner, model)
    expect_choice(owner, (False, True, "per_channel"), preserve_clusters=preserve_clusters)
    expect_floats(owner, model)
    wanted = wanted_layers(owner, model, layers)
    expect(bool(wanted), owner, "a model with layers", model=model.name)
    whole = layers is None and not any(isinstance(part, AnnotatedLayer) for part in parts_of(model))
    normalized, chosen = normalized_layers(model, wanted), {}

    def simple(layer):
        inner = unmarked(layer)
        if id(layer) not in wanted:
            return copied(inner, dtype="float32")
        asked = wanted[id(layer)]
        if asked is not None:
            expect_weights(owner, inner, asked.weights)
        parts = [copied(inner, dtype="float32")] if asked is not None else simplified(inner, id(layer) in normalized)
        chosen.update((id(part), asked) for part in parts)
        return parts if len(parts) > 1 else parts[0]

    plain = rebuilt(owner, model, simple)
    found = _placements(owner, plain, chosen, with_operations=whole)

    per_channel = preserve_clusters == "per_channel"
    clusters = {key: {} for key in found}
    if preserve_clusters:
        clusters = {
            id(part): _clusters(part, found[id(part)], per_channel) for part in parts_of(plain) if id(part) in found
        }
        rule = "clustered kernels to preserve"
        remedy = "Call strip_clustering after cluster_weights, or leave preserve_clusters."
        expect(any(clusters.values()), owner, rule, remedy, model=model.name)

    def replace(layer):
        if id(layer) not in found:
            return None
        kept = {"preserve_sparsity": preserve_sparsity and bool(found[id(layer)].weights)}
        kept |= {"clusters": clusters[id(layer)], "cluster_per_channel": per_channel}
        return _wrapped(layer, found[id(layer)], kept)

    rounded = _inputs(plain, chosen)
    quantized = rebuilt(
        owner, plain, replace, lambda name: QuantizedInput(name=f"quant_{name}") if name in rounded else None
    )
    return quantized if calibration_data is None else calibrate(quantized, calibration_data)


def _placements(owner, model, chosen, with_operations):
    """Return the placements of all layers to be wrapped, by id."""
    nodes = layer_graph(model)
    asked = {
        name: chosen.get(id(node.layer))
        for name, node in nodes.items()
        if id(node.layer) in chosen or (with_operations and not isinstance(node.layer, keras.layers.Layer))
    }
    found = {id(nodes[name].layer): placement for name, placement in placements(owner, nodes, asked).items()}
    for node in nodes.values():
        if is_graph(node.layer):
            for key, placement in _placements(owner, node.layer, chosen, with_operations).items():
                # What a layer shared by two models needs in either of them.
                placement.after |= key in found and found[key].after
                found[key] = placement
    return found


def _inputs(model, chosen):
    """Return the names of the inputs to round: numbers that a quantized layer gets."""
    names = input_names(model)
    if isinstance(model, keras.Sequential):
        heads = {names[0]: [model.layers[0]]}
    else:
        nodes = layer_graph(model)
        heads = {name: [nodes[head].layer for head in nodes[name].outputs] for name in names}
    return {
        name
        for name, x in zip(names, model.inputs, strict=True)
        if keras.backend.is_float_dtype(x.dtype) and any(_holds(head, chosen) for head in heads[name])
    }


def _holds(head, chosen):
    return any(id(part) in chosen for part in (parts_of(head) if is_graph(head) else [head]))


def _clusters(layer, placement, per_channel):
    """Return the number of values, by name, of the weights of a layer that are clustered."""
    numbers = {}
    for name in placement.weights:
        weight = keras.ops.convert_to_numpy(getattr(layer, name))
        number = distinct_values(weight, per_channel).shape[-1]
        if number <= min(MOST_CLUSTERS, weight.size // 2):
            numbers[name] = number
    return numbers


def _wrapped(layer, placement, kept):
    """Return a wrapper around a copy of a layer, with its activation where it rounds before or after it."""
    changes = {"activity_regularizer": None} if layer.activity_regularizer is not None else {}
    if placement.activation:
        changes["activation"] = "linear"
    return QuantizedLayer(
        copied(layer, **changes),
        placement.weights,
        layer.activation if placement.activation else None,
        placement.before,
        placement.after,
        **kept,
        activity_regularizer=layer.activity_regularizer,
        name=f"quant_{layer.name}",
    )
