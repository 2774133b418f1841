"""The shape of what a model takes."""


def known_shape(model):
    """Return the shape, or structure of shapes, of the inputs of a built model; None if Keras does not know it.

    A model around another builds itself by it, since Keras exports a model by the shape that it was built with.
    """
    return getattr(model, "input_shape", None) if model.built else None
