"""The shapes of what models take and return."""

import keras


def known_shape(model):
    """Return the shape, or structure of shapes, of the inputs of a built model; None if Keras does not know it.

    A model around another builds itself by it, since Keras exports a model by the shape that it was built with.
    """
    return getattr(model, "input_shape", None) if model.built else None


def build_by_shape(model, shape):
    """Build a model that is not, with all that is in it.

    Args:
        model: A Keras model.
        shape: Shape, or structure of shapes, of its inputs.
    """
    if model.built:
        return
    if type(model).build is keras.layers.Layer.build:
        # It would call the model built, and leave the layers within as they are.
        model(symbols(shape))
    else:
        model.build(shape)


def output_shape(model, shape):
    """Return the shape, or structure of shapes, of what a model returns; one without `compute_output_shape` is traced.

    Args:
        model: A Keras model.
        shape: Shape, or structure of shapes, of its inputs.
    """
    return keras.tree.map_structure(lambda output: output.shape, model.compute_output_spec(symbols(shape)))


def symbols(shape):
    """Return symbolic inputs in the structure of their shapes."""
    return keras.tree.map_shape_structure(keras.KerasTensor, shape)
