"""Norms of the weights of each layer, and of what training changed."""

from keras import ops


class LayerNorms:
    """Follows the trainable weights of a model; holds one copy of them.

    Weights belong to a layer by the path that Keras gives them: all but its last part.

    Args:
        model: A model; one that is not built yet has no layers.
    """

    def __init__(self, model):
        self.layers = {}
        for variable in model.trainable_variables:
            self.layers.setdefault(variable.path.rpartition("/")[0] or variable.path, []).append(variable)
        self.frozen = {}
        for variable in model.non_trainable_weights:
            layer = variable.path.rpartition("/")[0] or variable.path
            if layer not in self.layers:
                self.frozen.setdefault(layer, []).append(variable)
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


def _float(variable):
    return ops.cast(ops.convert_to_tensor(variable), "float32")


def _norm(tensors):
    return ops.sqrt(sum(ops.sum(ops.square(tensor)) for tensor in tensors))
