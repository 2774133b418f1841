"""A copy of a model with other layers in it."""

import keras

from keras_kicks._errors import expect


def rebuilt(owner, model, replace, on_input=None):
    """Return a copy of a Sequential or functional model in which other layers stand for some of its own.

    Nested models are copied too, a shared layer stays shared, names and what is trainable are kept. The copy is not
    compiled.

    Args:
        owner: Name for the error messages.
        model: A built Sequential or functional model.
        replace: Function from a layer that is no such model to the new layer, to a list of layers that are called one
            after the other, or to None for a plain copy. When the copy is built, a new layer takes the state of the old
            one over by its method `take(old)`, or gets it by the old one's `give(new)`; where there is neither, and
            for lists, the variables get the values of the old one's, in their order.
        on_input: Function from a name, of `input_names(model)`, to a new layer to put behind that input, or to None.

    Returns:
        The copy.

    Raises:
        ValueError: expected a Sequential or functional model, that was built.
    """
    made, pairs = {}, []

    def stand_in(part):
        if not isinstance(part, keras.layers.Layer):
            # An operation, as the addition of `x + y`, has no state.
            return part
        if id(part) not in made:
            if is_graph(part):
                made[id(part)] = copy(part)
            else:
                made[id(part)] = replace(part) or copied(part)
                pairs.append((part, made[id(part)]))
        return made[id(part)]

    def copy(part, on_input=None):
        build = _sequential if isinstance(part, keras.Sequential) else _functional
        return build(part, stand_in, on_input)

    expect_graph(owner, model)
    copied_model = copy(model, on_input)
    for old, new in pairs:
        if callable(getattr(new, "take", None)):
            new.take(old)
        elif callable(getattr(old, "give", None)):
            old.give(new)
        else:
            take_variables(_listed(new), old)
    return copied_model


def is_graph(part):
    """Return whether a layer is a model made of layers that are known."""
    return isinstance(part, (keras.Sequential, keras.Function))


def expect_graph(owner, model):
    """Raise unless a model is Sequential or functional, and built."""
    remedy = "Rewrite a subclassed model with the functional API."
    expect(is_graph(model), owner, "a Sequential or functional model", remedy, model=type(model).__name__)
    expect(model.built, owner, "a built model", "Call it on a batch first.", model=model.name)


def input_names(model):
    """Return the names of the inputs of a Sequential or functional model, in the order of `model.inputs`."""
    if isinstance(model, keras.Sequential):
        return [f"{model.name}_input"]
    named = {id(part.output): part.name for part in model.operations if isinstance(part, keras.layers.InputLayer)}
    return [named[id(x)] for x in model.inputs]


def copied(layer, **changes):
    """Return a new layer from the config of another, with changed entries."""
    return type(layer).from_config({**layer.get_config(), **changes})


def take_variables(layers, old):
    """Assign the values of the variables of a layer to those of one or more others, which may have other shapes."""
    variables = [variable for layer in layers for variable in layer.variables]
    for new, variable in zip(variables, old.variables, strict=True):
        new.assign(keras.ops.reshape(variable.value, new.shape))


def _sequential(model, stand_in, on_input):
    (known,), (name,) = model.inputs, input_names(model)
    inputs = keras.Input(batch_shape=known.shape, dtype=known.dtype, name=name)
    first = _listed(on_input(name) or []) if on_input is not None else []
    layers = [layer for part in model.layers for layer in _listed(stand_in(part))]
    return keras.Sequential([inputs, *first, *layers], name=model.name)


def _functional(model, stand_in, on_input):
    # A model without the settings of `compile`, which would be copied too.
    plain = keras.Model(model.input, model.output, name=model.name)
    tree = keras.tree
    made = {name: copied(plain.get_layer(name)).output for name in input_names(plain)}
    layers = {} if on_input is None else {name: on_input(name) for name in made}
    behind = {id(made[name]): layer(made[name]) for name, layer in layers.items() if layer is not None}
    inputs = tree.pack_sequence_as(plain.input, list(made.values()))

    def call(part, *args, **kwargs):
        args, kwargs = tree.map_structure(lambda x: behind.get(id(x), x), (args, kwargs))
        first, *others = _listed(part)
        outputs = first(*args, **kwargs)
        for other in others:
            outputs = other(outputs)
        return outputs

    return keras.models.clone_model(plain, input_tensors=inputs, clone_function=stand_in, call_function=call)


def _listed(layers):
    return layers if isinstance(layers, list) else [layers]
