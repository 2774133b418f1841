"""The graph of a Sequential or functional model: only the private history of its tensors tells the calls apart."""

import keras


def calls_before(tensors):
    """Return the calls that symbolic tensors depend on, each behind those it depends on itself.

    Args:
        tensors: Sequence of symbolic tensors.

    Returns:
        List of (layer or operation, input tensors, output tensors).
    """
    found, seen = [], set()
    waiting = [(tensor, False) for tensor in tensors]
    while waiting:
        tensor, ready = waiting.pop()
        operation, index, _ = tensor._keras_history
        if operation is None:
            continue
        node = operation._inbound_nodes[index]
        if ready:
            found.append((operation, list(node.input_tensors), list(node.output_tensors)))
        elif (id(operation), index) not in seen:
            seen.add((id(operation), index))
            waiting.append((tensor, True))
            waiting += [(source, False) for source in node.input_tensors]
    return found


def symbolic(model, end):
    """Return the "input" or "output" of a model with symbolic inputs; a Sequential one has no such attribute."""
    return getattr(model, f"{end}s")[0] if isinstance(model, keras.Sequential) else getattr(model, end)


def split_before(model, chosen):
    """Cut a model in front of some layers, so that what does not depend on them can be computed once.

    Args:
        model: A built model.
        chosen: Function of a layer or operation that tells whether it is one of these.

    Returns:
        A function of the inputs and `training` that returns a list of tensors, and one of this list and `training`
        that returns what the model does; both use the layers of the model. None for a model without symbolic inputs,
        with a `call` of its own, or without such layers in its graph.
    """
    if not getattr(model, "inputs", None):
        return None
    places, edge = set(), {}
    for operation, sources, results in calls_before(model.outputs):
        if chosen(operation) or any(_place(source) in places for source in sources):
            places |= {_place(result) for result in results}
            edge.update({id(source): source for source in sources if _place(source) not in places})
    depends = [_place(output) in places for output in model.outputs]
    if not any(depends):
        return None
    # Keras makes no model whose output is an input: what is known before passes by.
    passing = [output for output, after in zip(model.outputs, depends, strict=True) if not after]
    edge = list(edge.values())
    before = keras.Model(symbolic(model, "input"), [*edge, *passing], name=f"{model.name}_before")
    kind = keras.Sequential if isinstance(model, keras.Sequential) else type(before)
    if type(model).call is not kind.call:
        return None
    after = [output for output, after in zip(model.outputs, depends, strict=True) if after]
    rest, structure = keras.Model(edge, after, name=f"{model.name}_behind"), symbolic(model, "output")

    def behind(tensors, training):
        # `call`, since a functional model that is called on a masked tensor warns, although its layers take the mask.
        computed = iter(keras.tree.flatten(rest.call(tensors[: len(edge)], training=training)))
        passed = iter(tensors[len(edge) :])
        return keras.tree.pack_sequence_as(structure, [next(computed if after else passed) for after in depends])

    return lambda inputs, training: keras.tree.flatten(before(inputs, training=training)), behind


def _place(tensor):
    """Return what tells a symbolic tensor from others; Keras has several objects for some."""
    operation, index, position = tensor._keras_history
    return id(operation), index, position
