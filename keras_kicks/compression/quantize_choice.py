"""Which layers of a model are to be quantized."""

import keras

from keras_kicks._errors import expect
from keras_kicks.compression.keras_layers import all_layers
from keras_kicks.compression.layer_graph import layer_graph
from keras_kicks.compression.prunable import named_parts
from keras_kicks.compression.pruning_constraint import PruningConstraint
from keras_kicks.compression.quantize_annotate import AnnotatedLayer
from keras_kicks.compression.quantized_layer import QuantizedInput, QuantizedLayer
from keras_kicks.compression.rebuild import is_graph


def expect_floats(owner, model):
    """Raise unless a model has weights of its own that are floats, without what would change them in training."""
    for layer in all_layers(model):
        rounded = isinstance(layer, (QuantizedInput, QuantizedLayer))
        remedy = "Quantize the model from before."
        expect(not rounded, owner, "a model that is not quantized yet", remedy, layer=layer.name)
        mode = layer.quantization_mode
        expect(mode is None, owner, "layers of float weights", remedy, layer=layer.name, quantized=mode)
        lora = getattr(layer, "lora_enabled", False)
        expect(not lora, owner, "a kernel that is a variable", "Do not enable LoRA.", layer=layer.name)
    for weight in model.weights:
        pruned = isinstance(getattr(weight, "constraint", None), PruningConstraint)
        expect(not pruned, owner, "a model whose pruning has ended", "Call strip_pruning first.", weight=weight.path)


def wanted_layers(owner, model, layers):
    """Return the placement that was asked for, or None, by id of each layer that is to be quantized."""
    parts = list(parts_of(model))
    annotated = {id(part): part.placement() for part in parts if isinstance(part, AnnotatedLayer)}
    if layers is None:
        return annotated or {id(part): None for part in parts}
    wanted = {}
    for _, matches in named_parts(owner, parts, layers):
        for match in matches:
            for part in parts_of(match) if is_graph(match) else [match]:
                wanted[id(part)] = annotated.get(id(part))
    return wanted


def normalized_layers(model, wanted):
    """Return the ids of wanted Dense layers that feed a wanted BatchNormalization and nothing else."""
    found = set()
    for graph in (model, *filter(is_graph, parts_of(model))):
        nodes = layer_graph(graph)
        for node in nodes.values():
            source = nodes[node.inputs[0]] if len(node.inputs) == 1 else None
            both = source is not None and {id(node.layer), id(source.layer)} <= wanted.keys()
            kinds = both and (type(unmarked(source.layer)), type(unmarked(node.layer)))
            if kinds == (keras.layers.Dense, keras.layers.BatchNormalization) and source.feeds_one():
                found.add(id(source.layer))
    return found


def unmarked(layer):
    """Return the layer in one that is marked, or the layer."""
    return layer.layer if isinstance(layer, AnnotatedLayer) else layer


def parts_of(model):
    """Yield the layers of a model, also those of models in it, and these themselves."""
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            yield layer
        if is_graph(layer):
            yield from parts_of(layer)
