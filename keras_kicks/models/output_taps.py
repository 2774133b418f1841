"""A model's output together with the outputs of some of its layers, in one forward pass."""

import keras

from keras_kicks._errors import expect
from keras_kicks.models.symbolic_graph import calls_before, symbolic


class OutputTaps:
    """Runs a model once and returns its output and the outputs of named layers.

    The model is not changed, and not tracked by a model that holds the taps.

    Args:
        model: A Keras model; Functional or Sequential if a layer is named.
        layer_names: Names of its layers.
        owner: Name of the class whose error messages these are.
        role: What the model is, for error messages.

    Raises:
        ValueError: expected a model with symbolic inputs where layers are named; names of its layers; layers with one
            output that are used once.
    """

    def __init__(self, model, layer_names, owner, role):
        self.model = model
        self.latest = None
        self._extractor = None
        if not layer_names:
            return
        functional = bool(getattr(model, "inputs", None))
        rule = f"a Functional or a built Sequential {role}, to name a layer of"
        expect(functional, owner, rule, "Name no layer to compare outputs.", **{role: model.name})
        features = {name: _layer_output(model, name, owner, role) for name in layer_names}
        outputs = {"output": symbolic(model, "output"), "features": features}
        self._extractor = keras.Model(symbolic(model, "input"), outputs, name=f"{model.name}_taps")

    def __call__(self, x, training):
        """Return `{"output": ..., "features": {layer name: ...}}`."""
        if self._extractor is None:
            return {"output": self.model(x, training=training), "features": {}}
        return self._extractor(x, training=training)

    def spec(self):
        """Return symbolic tensors in the structure of what a call returns, or None for a model without any."""
        if self._extractor is not None:
            return self._extractor.output
        if not getattr(self.model, "outputs", None):
            return None
        return {"output": symbolic(self.model, "output"), "features": {}}


def _layer_output(model, name, owner, role):
    names = [layer.name for layer in model.layers]
    expect(name in names, owner, f"the name of a layer of the {role}", f"It has {', '.join(names)}.", layer_name=name)
    calls = _calls(model.get_layer(name), model.outputs)
    rule = f"a layer of the {role} that is used once"
    expect(len(calls) == 1, owner, rule, "Name another layer.", layer_name=name, uses=len(calls))
    rule = f"a layer of the {role} with one output"
    expect(len(calls[0]) == 1, owner, rule, "Name another layer.", layer_name=name, outputs=len(calls[0]))
    return calls[0][0]


def _calls(layer, outputs):
    """Return, for each call of a layer that symbolic outputs depend on, the list of the tensors it returned."""
    # `layer.output` would be that of its first call: in a loaded Sequential that is one of an earlier build, and the
    # layer would run twice.
    return [results for operation, _, results in calls_before(outputs) if operation is layer]
