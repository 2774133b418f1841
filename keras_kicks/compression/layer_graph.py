"""Which layer of a model feeds which."""

import dataclasses
import itertools

import keras


@dataclasses.dataclass
class Node:
    """A layer in the graph of a model.

    Attributes:
        layer: The layer, or an operation that is none.
        inputs: Names of what feeds it, once for each call and argument.
        outputs: Names of what it feeds, likewise.
        calls: How often it is called.
        is_output: Whether it returns an output of the model.
    """

    layer: object
    inputs: list = dataclasses.field(default_factory=list)
    outputs: list = dataclasses.field(default_factory=list)
    calls: int = 1
    is_output: bool = False

    def feeds_one(self):
        """Return whether one layer, called once, is all that gets what this one returns."""
        return len(self.outputs) == 1 and self.calls == 1 and not self.is_output


def layer_graph(model):
    """Return a `Node` by name for each layer and operation of a Sequential or functional model, in order.

    A nested model is one node.
    """
    if isinstance(model, keras.Sequential):
        nodes = {layer.name: Node(layer) for layer in model.layers}
        for before, after in itertools.pairwise(nodes):
            nodes[before].outputs.append(after)
            nodes[after].inputs.append(before)
        nodes[model.layers[-1].name].is_output = True
        return nodes
    nodes = {operation.name: Node(operation) for operation in model.operations}
    config = model.get_config()
    # The connections as they are saved.
    for part in config["layers"]:
        node = nodes[part["name"]]
        node.calls = len(part["inbound_nodes"])
        for name in _sources(part["inbound_nodes"]):
            node.inputs.append(name)
            nodes[name].outputs.append(part["name"])
    for name in _histories(config["output_layers"]):
        nodes[name].is_output = True
    return nodes


def _sources(saved):
    """Yield the names of the layers whose outputs a saved call takes."""
    if isinstance(saved, dict):
        if saved.get("class_name") == "__keras_tensor__":
            yield saved["config"]["keras_history"][0]
            return
        saved = list(saved.values())
    if isinstance(saved, (list, tuple)):
        for item in saved:
            yield from _sources(item)


def _histories(saved):
    """Yield the names in a structure of [name, call, output]."""
    if isinstance(saved, dict):
        saved = list(saved.values())
    if len(saved) == 3 and isinstance(saved[0], str):
        yield saved[0]
    else:
        for item in saved:
            yield from _histories(item)
