"""What a decoder that feeds back is called with."""

import keras

from keras_kicks._errors import expect


def is_sequence(inputs):
    """Whether there are inputs of shape (batch, steps, features)."""
    return inputs is not None and len(inputs.shape) == 3


def check_arguments(decoder, inputs, labels, initial_state, training=False, max_length=None):
    """Raise unless the arguments of a call, which may be symbolic, fit the layer and each other."""
    owner = type(decoder).__name__
    anything = any(x is not None for x in (inputs, labels, initial_state))
    expect(anything, owner, "inputs, labels or an initial_state", inputs=inputs, labels=labels)
    if inputs is not None:
        shape = tuple(inputs.shape)
        rule = "inputs of shape (batch, steps, features) or (batch, features)"
        expect(len(shape) in (2, 3), owner, rule, inputs_shape=shape)
    if labels is None:
        remedy = "Build the model to train with decoder(inputs, labels)."
        expect(not training, owner, "labels in training", remedy, labels=labels)
        steps = is_sequence(inputs) or max_length is not None
        remedy = "Pass it to the constructor."
        expect(steps, owner, "a max_length where neither labels nor inputs have steps", remedy, max_length=None)
    else:
        decoder.check_labels(labels)
        lengths = {x.shape[1] for x in (inputs, labels) if x is labels or is_sequence(x)} - {None}
        expect(len(lengths) < 2, owner, "as many steps in inputs as in labels", steps=sorted(lengths))
    width = None if inputs is None else inputs.shape[-1]
    rule = "inputs of the width that the layer was built with (None for no inputs)"
    same = not decoder.built or width == decoder.input_width
    expect(same, owner, rule, built_with=decoder.input_width, inputs=width)
    if initial_state is not None:
        expect(decoder.is_recurrent, owner, "no initial_state for a cell without states", cell=decoder.cell.name)
        given = [tuple(state.shape) for state in keras.tree.flatten(initial_state)]
        sizes = keras.tree.flatten(decoder.cell.state_size)
        fits = len(given) == len(sizes) and all(
            shape[-1] in (None, size) for shape, size in zip(given, sizes, strict=True)
        )
        expect(fits, owner, "an initial_state of the sizes of the cell", given=given, state_size=sizes)
