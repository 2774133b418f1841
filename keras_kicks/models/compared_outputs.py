"""What a distillation loss compares, out of the outputs of teachers and a student."""

import keras

from keras_kicks._errors import expect
from keras_kicks._producer import producer


def selected(loss, outputs, role, owner):
    """Return the tensor that a loss compares: a layer's output, or the one of the model's outputs it names."""
    name = getattr(loss, f"{role}_layer_name")
    if name is not None:
        return outputs["features"][name]
    output = outputs["output"]
    if not loss.per_sample:
        return output
    if loss.output_key is not None:
        rule = f"an output of the {role} for {loss.name}"
        nested = keras.tree.is_nested(output)
        expect(nested, owner, rule, f"The {role} has one output: leave `output` out.", output=loss.output_key)
        try:
            return output[loss.output_key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{owner}: expected {rule}; got output={loss.output_key!r}.") from error
    several = keras.tree.is_nested(output)
    remedy = "Give it `output`, and one loss for each output to compare."
    expect(
        not several, owner, f"one output of the {role} for {loss.name}", remedy, outputs=len(keras.tree.flatten(output))
    )
    return output


def shapes(outputs):
    """Return the shape of one tensor as a tuple, None for several."""
    return None if keras.tree.is_nested(outputs) else tuple(outputs.shape)


def weight_of(loss, sample_weight):
    """Return the weight of each sample that counts for a loss, where each output has its own."""
    if not keras.tree.is_nested(sample_weight):
        return sample_weight
    if loss.output_key is not None:
        return sample_weight[loss.output_key]
    return keras.tree.flatten(sample_weight)[0]


def expect_same_inputs(owner, teacher, student):
    """Raise if two models are known to take inputs of different shapes."""
    inputs = [getattr(model, "inputs", None) for model in (teacher, student)]
    if not all(inputs):
        return
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in inputs]
    fits = len(shapes[0]) == len(shapes[1]) and all(
        len(a) == len(b) and all(None in pair or pair[0] == pair[1] for pair in zip(a, b, strict=True))
        for a, b in zip(*shapes, strict=True)
    )
    rule = "teachers and a student that take inputs of the same shape"
    expect(fits, owner, rule, teacher=shapes[0], student=shapes[1])


def expect_logits(owner, output, **model):
    """Raise if a symbolic output comes from a softmax or a sigmoid."""
    layer = producer(output)
    layer = getattr(layer, "layer", layer)  # of a wrapper: TimeDistributed
    activation = keras.activations.softmax if isinstance(layer, keras.layers.Softmax) else layer
    activation = getattr(activation, "activation", activation)
    logits = activation not in (keras.activations.softmax, keras.activations.sigmoid)
    remedy = "Remove the activation, or use LogitsDistillation(from_logits=False)."
    ((role, _),) = model.items()
    name = getattr(activation, "__name__", None)
    expect(logits, owner, f"logits from the {role}", remedy, **model, activation=name)
