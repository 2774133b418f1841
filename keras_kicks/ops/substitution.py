"""Run a layer with other values in place of some of its variables."""

import contextlib

import keras


@contextlib.contextmanager
def substituted(layer, replacements, add_loss):
    """Let `layer` read tensors in place of some of its variables; everything else it does takes effect as usual.

    A layer shared with another part of the model is not touched: the variables keep their values, gradients flow
    through the tensors to whatever they were computed from.

    Args:
        layer: A built layer.
        replacements: Sequence of (variable, tensor of the same shape).
        add_loss: Called with each loss that the layer adds (activity regularizers).

    Yields:
        Nothing; call the layer inside.
    """
    replaced = {id(variable): tensor for variable, tensor in replacements}
    # Every variable is mapped, also the unchanged ones, since the scope hides an outer one (JAX trains inside one).
    # Keras does not list the states of a stateful recurrent layer among its variables.
    parts = [layer, *(getattr(layer, name, None) for name in ("forward_layer", "backward_layer"))]
    states = keras.tree.flatten([getattr(part, "states", None) or [] for part in parts])
    variables = [*layer.variables, *(state for state in states if isinstance(state, keras.Variable))]
    mapping = [(variable, replaced.get(id(variable), variable.value)) for variable in variables]
    with keras.StatelessScope(mapping, collect_losses=True, initialize_variables=False) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        yield
    for variable, value in zip(variables, before, strict=True):
        after = scope.get_current_value(variable)
        if after is not value and id(variable) not in replaced:
            variable.assign(after)
    for loss in scope.losses:
        add_loss(loss)
