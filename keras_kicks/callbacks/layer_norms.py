"""Norms of the weights of each layer, and of what training changed."""

import keras
from keras import ops

from keras_kicks._layer_tree import parts_by_path


class LayerNorms:
    """Follows the trainable weights of a model; holds one copy of them.

    Args:
        model: A model; one that is not built yet has no layers.
    """

    def __init__(self, model):
        trainable = {id(variable) for variable in model.trainable_variables}
        self.layers, self.frozen = {}, {}
        for path, variables in weights_by_layer(model).items():
            trained = [variable for variable in variables if id(variable) in trainable]
            (self.layers if trained else self.frozen)[path] = trained or variables
        self._before = self._copies()

    def read(self):
        """Return the norms by tag, and start the next period.

        Returns:
            Dict of floats: `weight_norm/<layer>` for each layer, `update_norm/<layer>` and `update_ratio/<layer>`
            (update over weight) for those that are trained, since the last call or the construction.
        """
        now = self._copies()
        names = [*self.layers, *self.frozen]
        frozen = [_norm([_float(v) for v in variables]) for variables in self.frozen.values()]
        weights = [*(_norm(now[name]) for name in self.layers), *frozen]
        updates = [_norm([a - b for a, b in zip(now[name], self._before[name], strict=True)]) for name in self.layers]
        if not names:
            return {}
        # One transfer for all of them.
        values = ops.convert_to_numpy(ops.stack([*weights, *updates])).tolist()
        self._before = now
        tags = {f"weight_norm/{name}": value for name, value in zip(names, values, strict=False)}
        for name, update in zip(self.layers, values[len(names) :], strict=True):
            tags[f"update_norm/{name}"] = update
            if tags[f"weight_norm/{name}"] > 0:
                tags[f"update_ratio/{name}"] = update / tags[f"weight_norm/{name}"]
        return tags

    def _copies(self):
        return {name: [ops.copy(_float(v)) for v in variables] for name, variables in self.layers.items()}


def weights_by_layer(model):
    """Return the floating weights of a model, each once, by the path of the innermost layer that has it.

    What a layer keeps to itself, as attention does with its projections, is told apart by the names that Keras gives
    the variables.
    """
    parts = parts_by_path(model)
    owners = {}
    # From the inside to the outside; the first of several layers that share a weight has it.
    for path, part in parts.items():
        for variable in part.weights if isinstance(part, keras.layers.Layer) else ():
            owner = owners.get(id(variable), "")
            if not owner or path.startswith(f"{owner}/"):
                owners[id(variable)] = path
    found = {}
    for variable in model.weights:
        path = owners[id(variable)]
        # Counters, quantized weights and what a constraint keeps have no norm that means something.
        if keras.backend.is_float_dtype(variable.dtype) and not isinstance(parts[path], keras.constraints.Constraint):
            names = variable.path.split("/")[:-1]
            own = parts[path].name
            inner = names[len(names) - names[::-1].index(own) :] if own in names else []
            found.setdefault("/".join([*filter(None, [path]), *inner]) or own, []).append(variable)
    return found


def _float(variable):
    return ops.cast(ops.convert_to_tensor(variable), "float32")


def _norm(tensors):
    return ops.sqrt(sum(ops.sum(ops.square(tensor)) for tensor in tensors))
