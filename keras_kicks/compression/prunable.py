"""Which weights of a model are pruned, and where their layers keep the constraint."""

import dataclasses

import keras

from keras_kicks._errors import expect
from keras_kicks.compression.keras_layers import all_layers, attention_parts, own_variables
from keras_kicks.layers import MaxoutDense

L = keras.layers
# The weights that TFMOT prunes, by layer; depthwise kernels, biases and what normalizes are not worth it.
_NAMES = {
    L.Dense: ("kernel",),
    L.EinsumDense: ("kernel",),
    L.Conv1D: ("kernel",),
    L.Conv2D: ("kernel",),
    L.Conv3D: ("kernel",),
    L.Conv1DTranspose: ("kernel",),
    L.Conv2DTranspose: ("kernel",),
    L.Conv3DTranspose: ("kernel",),
    L.SeparableConv1D: ("pointwise_kernel",),
    L.SeparableConv2D: ("pointwise_kernel",),
    L.Embedding: ("embeddings",),
    L.SimpleRNNCell: ("kernel", "recurrent_kernel"),
    L.LSTMCell: ("kernel", "recurrent_kernel"),
    L.GRUCell: ("kernel", "recurrent_kernel"),
    MaxoutDense: ("kernel",),
}
# The methods by which a layer says what to do with it, the first that it has.
_METHODS = {
    "prune": ("get_prunable_weights",),
    "cluster": ("get_clusterable_weights", "get_prunable_weights"),
    "report": ("get_prunable_weights",),
}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A weight to prune.

    Attributes:
        variable: The weight.
        layer: The layer it belongs to.
        holders: (layer, name) of each attribute that is the constraint of the weight; the last is what Keras saves.
            Empty where the layer has none.
    """

    variable: keras.Variable
    layer: keras.layers.Layer
    holders: tuple


def prunable_kernels(model, owner, layers=None, task="prune"):
    """Return the kernels of a model, or of some of its layers, each once.

    A layer may have a method `get_prunable_weights()` that returns them. Of others it is known for the layers of Keras;
    one's own layer whose weights are in layers of Keras is no question either.

    Args:
        model: A built model.
        owner: Name for the error messages.
        layers: Layers, or names of layers, whose kernels (also those in layers within) are wanted; None for all.
        task: "prune"; "cluster": then a method `get_clusterable_weights()`, if there is one, comes first; or "report",
            which refuses no layer: of one that does not say what to prune, weights of rank 2 and more count.

    Raises:
        TypeError: `layers` holds neither layers nor names.
        ValueError: expected layers of the model with weights to prune; layers that say what to prune; attention layers
            as a whole; floating variables.
    """
    parts = all_layers(model)
    makers = {id(variable): part for part in parts for variable in own_variables(part)}
    holders = _attention_holders(parts)
    roots = [model] if layers is None else _named(layers, parts, owner, task)
    found = {}
    for layer in (part for root in roots for part in all_layers(root)):
        for variable in _weights(layer, owner, task):
            maker = makers.get(id(variable), layer)
            name = _attribute(maker, variable)
            held = ((maker, name),) if name else ()
            found.setdefault(id(variable), Kernel(variable, maker, held + holders.get(id(maker), ())))
    if task == "prune":
        _expect_whole(owner, found, parts)
    return list(found.values())


def _named(layers, parts, owner, task):
    """Return the layers that were asked for, each with something to prune in it."""
    roots = []
    # The first part is the model itself.
    for shown, matches in named_parts(owner, parts, layers, parts[1:]):
        weights = [w for match in matches for part in all_layers(match) for w in _weights(part, owner, task)]
        remedy = f"Leave the layer out, or give it a method {_METHODS[task][0]}."
        expect(bool(weights), owner, f"layers with weights to {task}", remedy, layers=shown)
        roots += matches
    return roots


def named_parts(owner, parts, layers, listed=None):
    """Yield, for each layer or name of one that a user gave, its name and the parts of a model that it stands for.

    Args:
        owner: Name for the error messages.
        parts: The layers of the model.
        layers: What was given: one of them, or several.
        listed: Those to name in an error message; None for all.

    Raises:
        TypeError: `layers` holds neither layers nor names.
        ValueError: expected layers of the model.
    """
    for item in layers if isinstance(layers, (list, tuple, set)) else [layers]:
        known = isinstance(item, (str, keras.layers.Layer))
        expect(known, owner, "layers, or names of layers", error=TypeError, layers=item)
        matches = [part for part in parts if part is item or part.name == item]
        shown = item if isinstance(item, str) else item.name
        names = ", ".join(part.name for part in (parts if listed is None else listed))
        expect(bool(matches), owner, "layers of the model", f"It has: {names}.", layers=shown)
        yield shown, matches


def _weights(layer, owner, task):
    """Return the weights of a layer itself that are pruned."""
    listed = _listed(layer, task)
    if task == "report":
        variables = listed is not None and all(isinstance(weight, keras.Variable) for weight in listed)
        return listed if variables else _matrices(layer)
    method = _METHODS[task][0]
    remedy = f"Give it a method {method} that returns a list, or name the `layers` to {task}."
    unknown = [v.name for v in _matrices(layer)] if listed is None else []
    expect(not unknown, owner, f"layers that say what to {task}", remedy, layer=layer.name, weights=unknown)
    for weight in listed or []:
        # A layer that is not built has None, or raises; one with LoRA a sum.
        expect(weight is not None, owner, "layers that are built", "Call the model first.", layer=layer.name)
        variable = isinstance(weight, keras.Variable) and keras.backend.is_float_dtype(weight.dtype)
        remedy = f"{task.title()} before LoRA is enabled and before the model is quantized."
        expect(variable, owner, "weights that are floating variables", remedy, layer=layer.name)
    return listed or []


def _listed(layer, task):
    """Return what a layer, or the list above, says is to be pruned; None if nobody knows."""
    for method in _METHODS[task]:
        if callable(getattr(layer, method, None)):
            # Layers that are written for TFMOT return pairs of name and weight to be clustered.
            return [item[-1] if isinstance(item, tuple) else item for item in getattr(layer, method)()]
    for kind, names in _NAMES.items():
        if isinstance(layer, kind):
            return [getattr(layer, name) if layer.built else None for name in names]
    # Other layers of Keras, and of this library, have nothing worth it.
    return [] if type(layer).__module__.split(".")[0] in ("keras", "keras_kicks") else None


def _matrices(layer):
    return [variable for variable in own_variables(layer) if len(variable.shape) > 1]


def _expect_whole(owner, found, parts):
    """Raise if only some of the kernels of an attention layer are asked for, which Keras could not save."""
    for layer in parts:
        inner, _ = attention_parts(layer)
        chosen = [id(part.kernel) in found for part in inner or ()]
        remedy = "Name the attention layer itself."
        expect(len(set(chosen)) < 2, owner, "attention layers as a whole", remedy, layers=layer.name)


def _attribute(layer, variable):
    """Return the name of the attribute that holds the constraint of a weight, by Keras's own rule, or None."""
    name = variable.name
    for candidate in (f"{name}_constraint", f"{name.removesuffix('_kernel')}_constraint"):
        if hasattr(layer, candidate):
            return candidate
    return None


def _attention_holders(parts):
    """Return the holder besides its own of each part of an attention layer, by the part's id."""
    holders = {}
    for layer in parts:
        inner, name = attention_parts(layer)
        for part in inner or ():
            holders[id(part)] = ((layer, name),)
    return holders
